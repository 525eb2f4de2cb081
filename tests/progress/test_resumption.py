"""Tests of stages that are stopped and continued: they give the bytes of those that were not."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from dcomp import stages
from dcomp.checkpoints import safetensors_file
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.cli import app, restarting, run, runs
from dcomp.container.verification import identical
from dcomp.errors import CheckpointError, StoppedError, UsageError
from dcomp.learning import training
from dcomp.progress.csv_log import Journal
from dcomp.progress.observer import Observer, Together
from dcomp.progress.resumption import StateFile
from dcomp.settings import PruneSettings, QuantizeSettings, TrainSettings
from dcomp.system import locks

DIGITS = {"data": "digits", "batch_size": 64, "lr": 0.05, "device": "cpu"}
STEPS = 21  # an epoch

DROPOUT = """
from torch import nn
def net():
    hidden = [nn.Linear(784, 50), nn.BatchNorm1d(50), nn.ReLU(), nn.Dropout()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(50, 10))
"""


class StopsAt(Observer):
    """Presses Ctrl-C once, after a step."""

    def __init__(self, step):
        self.step = step

    def finished_steps(self, count, loss, accuracy):
        if count == self.step:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def trained():
    return stages.train(TrainSettings(architecture="lenet300", epochs=2, **DIGITS))


@pytest.fixture
def stopped_and_resumed(tmp_path, monkeypatch):
    """Run a stage, stopped after the given steps, until it is through."""
    monkeypatch.setattr(training, "NOTIFY_EVERY", 1)
    path = tmp_path / "made.state"

    def run(stage, *arguments, stops, epochs=()):
        for number, step in enumerate(stops):
            epoch = epochs[number] if epochs else (step - 1) // STEPS + 1
            with pytest.raises(StoppedError, match=rf"stopped in epoch {epoch}\b.*{path.name}"):
                stage(*arguments, StopsAt(step), state=StateFile(path, resume=number > 0))
        return stage(*arguments, state=StateFile(path, resume=True))

    return run


class Rates(Observer):
    """Remembers the learning rate of each epoch."""

    def __init__(self):
        self.rates = []

    def finished_epoch(self, record):
        self.rates.append(record.lr)


@pytest.mark.parametrize("stops", [[5], [STEPS], [STEPS - 1, STEPS + 1, 2 * STEPS + 7]])
@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd", "augment": "shift", "lr_schedule": "one-cycle"},
        {"optimizer": "adamw", "lr": 0.001, "lr_schedule": "plateau", "patience": 0, "warmup": 0.5},
        {"clip_norm": 1.0, "label_smoothing": 0.1, "momentum": 0, "warmup": 1.5, "precision": "bf16"},
    ],
    ids=["sgd", "adamw", "plain"],
)
def test_a_resumed_training_equals_a_straight_one(stopped_and_resumed, tmp_path, monkeypatch, stops, changes):
    (tmp_path / "dropnet.py").write_text(DROPOUT)
    monkeypatch.chdir(tmp_path)
    settings = TrainSettings(architecture="dropnet:net", epochs=4, **{**DIGITS, **changes})
    assert identical(stages.train(settings), stopped_and_resumed(stages.train, settings, stops=stops))


TASK = """
import random
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
import dcomp

class Noisy(Dataset):
    def __len__(self):
        return 210
    def __getitem__(self, index):
        return {"x": torch.full((3,), index / 210) + torch.rand(3) * np.random.rand() * random.random()}

def network():
    return nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.2), nn.Linear(8, 3))

def loss(model, batch):
    return (model(batch["x"]) - batch["x"]).square().mean()

def of_data_sets():
    return dcomp.Task(train=Noisy(), test=Noisy(), loss=loss)

def of_loaders():
    loader = DataLoader(Noisy(), batch_size=10, shuffle=True)
    return dcomp.Task(train=loader, validation=loader, test=loader, loss=loss)
"""


@pytest.mark.parametrize("stops", [[5], [STEPS], [STEPS - 1, STEPS + 1, 2 * STEPS + 7]])
@pytest.mark.parametrize("form", ["of_data_sets", "of_loaders"])
def test_a_resumed_training_of_a_task_equals_a_straight_one(stopped_and_resumed, tmp_path, monkeypatch, form, stops):
    (tmp_path / "tasknet.py").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    task = {"data": f"tasknet:{form}", "batch_size": 10, "lr": 0.05, "device": "cpu"}
    split = {"val_split": 0} if form == "of_data_sets" else {}
    settings = TrainSettings(architecture="tasknet:network", epochs=4, **task, **split)
    assert identical(stages.train(settings), stopped_and_resumed(stages.train, settings, stops=stops))


def test_an_epoch_stopped_at_its_end_keeps_its_rate(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "NOTIFY_EVERY", 1)
    settings, path = TrainSettings(architecture="lenet300", epochs=2, **DIGITS), tmp_path / "made.state"
    straight, resumed = Rates(), Rates()
    stages.train(settings, straight)
    with pytest.raises(StoppedError):
        stages.train(settings, StopsAt(STEPS), state=StateFile(path))
    stages.train(settings, resumed, state=StateFile(path, resume=True))
    assert resumed.rates == straight.rates


@pytest.mark.parametrize("stops", [[8], [30], [11, 45]])
def test_a_resumed_gradual_pruning_equals_a_straight_one(trained, stopped_and_resumed, stops):
    settings = PruneSettings(sparsity=0.9, epochs=3, until=2, every=0.25, **DIGITS)
    straight = stages.prune(trained, settings)
    assert identical(straight, stopped_and_resumed(stages.prune, trained, settings, stops=stops))


@pytest.mark.parametrize("stops", [[8], [30]])
@pytest.mark.parametrize(
    "changes",
    [
        {"sparsity": 0.95, "ema": 0.9},
        {"target_ratio": 30, "criterion": "fisher", "kinds": "conv,linear,bias", "remove_dead_units": True},
    ],
    ids=["average", "bytes"],
)
def test_any_resumed_pruning_equals_a_straight_one(trained, stopped_and_resumed, tmp_path, stops, changes):
    teacher = tmp_path / "teacher.safetensors"
    with teacher.open("wb") as file:
        safetensors_file.save(trained, file)
    settings = PruneSettings(epochs=3, until=2, every=0.5, distill=teacher, **changes, **DIGITS)
    straight = stages.prune(trained, settings)
    assert identical(straight, stopped_and_resumed(stages.prune, trained, settings, stops=stops))


@pytest.mark.parametrize("stops", [[8], [22, 24]])
def test_a_resumed_codebook_equals_a_straight_one(trained, stopped_and_resumed, stops):
    pruned = stages.prune(trained, PruneSettings(sparsity=0.9))
    settings = QuantizeSettings(fc_bits=4, epochs=2, **{**DIGITS, "lr": 0.001})
    straight = stages.quantize(pruned, settings)
    assert identical(straight, stopped_and_resumed(stages.quantize, pruned, settings, stops=stops))


@pytest.mark.parametrize(("stops", "epochs"), [([8], ["1 of 3"]), ([51], ["3 of 3"]), ([8, 51], ["1 of 3", "3 of 3"])])
def test_a_resumed_second_phase_equals_a_straight_one(trained, stopped_and_resumed, stops, epochs):
    pruned = stages.prune(trained, PruneSettings(sparsity=0.9))
    settings = QuantizeSettings(fc_bits=4, start=1, epochs=3, **{**DIGITS, "lr": 0.001})
    straight = stages.quantize(pruned, settings)
    assert identical(straight, stopped_and_resumed(stages.quantize, pruned, settings, stops=stops, epochs=epochs))


@pytest.mark.parametrize(("stops", "epochs"), [([8], ["1 of 9"]), ([25], ["2 of 9"]), ([8, 25], ["1 of 9", "2 of 9"])])
def test_a_resumed_stage_whose_trainings_end_early_equals_a_straight_one(trained, stopped_and_resumed, stops, epochs):
    harmful = {**DIGITS, "lr": 1.0, "optimizer": "sgd", "clip_norm": 1.0, "lr_schedule": "constant"}
    settings = QuantizeSettings(fc_bits=4, start=4, epochs=9, early_stop=1, **harmful)
    straight = stages.quantize(trained, settings)
    assert len(json.loads(straight.metadata["dcomp.history"])) == 2
    assert identical(straight, stopped_and_resumed(stages.quantize, trained, settings, stops=stops, epochs=epochs))


def test_a_resumed_training_with_every_new_option_equals_a_straight_one(trained, stopped_and_resumed):
    options = {"optimizer": "muon", "l1": 1e-4, "freeze": "^fc1", "optimizer_option": "ns_steps=3", "early_stop": 2}
    settings = PruneSettings(amount=0.3, sparsity=0.5, at=[0, 0.5, 1], epochs=3, **{**DIGITS, **options})
    straight = stages.prune(trained, settings)
    assert identical(straight, stopped_and_resumed(stages.prune, trained, settings, stops=[8, 30]))


@pytest.mark.parametrize("step", [8, 30])
def test_start_may_not_change_on_resumption(trained, tmp_path, monkeypatch, step):
    monkeypatch.setattr(training, "NOTIFY_EVERY", 1)
    settings, state = {"fc_bits": 4, "epochs": 3, **DIGITS}, StateFile(tmp_path / "made.state")
    with pytest.raises(StoppedError):
        stages.quantize(trained, QuantizeSettings(start=1, **settings), StopsAt(step), state=state)
    with pytest.raises(UsageError, match="was made with --start 1, not 2"):
        stages.quantize(trained, QuantizeSettings(start=2, **settings), state=replace(state, resume=True))


def test_a_resumed_log_has_each_epoch_once(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "NOTIFY_EVERY", 1)
    settings = QuantizeSettings(fc_bits=4, start=1, epochs=3, **DIGITS)
    state, journal = StateFile(tmp_path / "made.state"), Journal(tmp_path / "log.csv")
    with pytest.raises(StoppedError):
        stages.quantize(trained, settings, Together(StopsAt(51), journal), state=state)
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "1", "2"]
    stages.quantize(trained, settings, journal, state=replace(state, resume=True))
    again = (tmp_path / "log.csv").read_text().splitlines()
    assert again[:3] == rows
    assert [row.split(",")[0] for row in again] == ["epoch", "1", "2", "3"]


def test_dropout_follows_restored_masks(stopped_and_resumed, tmp_path, monkeypatch):
    (tmp_path / "dropnet.py").write_text(DROPOUT)
    monkeypatch.chdir(tmp_path)
    dense = stages.train(TrainSettings(architecture="dropnet:net", epochs=1, **DIGITS))
    settings = PruneSettings(sparsity=0.9, epochs=3, at=[0, 2], **DIGITS)
    stage = partial(stages.prune, architecture="dropnet:net")
    assert identical(stage(dense, settings), stopped_and_resumed(stage, dense, settings, stops=[30]))


@pytest.fixture
def state(trained, tmp_path):
    """The state of a pruning that was stopped in its second epoch."""
    path = tmp_path / "made.state"
    settings = PruneSettings(sparsity=0.9, epochs=2, until=1, **DIGITS)
    with pytest.raises(StoppedError):
        stages.prune(trained, settings, StopsAt(40), state=StateFile(path))
    return path


def test_a_state_is_a_safetensors_file_whose_weights_have_their_names_and_zeros(state):
    read = safetensors_file.load_file(state)
    assert 0.8 < np.mean(read.tensors["model.fc1.weight"] == 0) < 1
    assert not any("mask" in name or "parametrizations" in name for name in read.tensors)
    assert read.tensors["optimizer.0.momentum_buffer"].dtype == np.float32
    facts = json.loads(read.metadata["dcomp.state"])
    assert (facts["step"], len(facts["history"])) == (40, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.1}, r"was made with --lr 0\.05, not 0\.1; give the same"),
        ({"warmup": 0.5}, r"was made with --warmup 0\.0, not 0\.5"),
        ({"sparsity": 0.8}, r"was made with --sparsity 0\.9, not 0\.8"),
    ],
)
def test_a_state_of_other_settings_names_the_setting(trained, state, changes, message):
    settings = PruneSettings(**{"sparsity": 0.9, "epochs": 2, "until": 1, **DIGITS, **changes})
    with pytest.raises(UsageError, match=message):
        stages.prune(trained, settings, state=StateFile(state, resume=True))


def test_a_state_of_another_command_is_refused(trained, state):
    settings = PruneSettings(sparsity=0.9, epochs=2, until=1, **DIGITS)
    other = trained.replaced({"fc3.bias": trained.tensors["fc3.bias"] + 1})
    with pytest.raises(UsageError, match="was made from another checkpoint"):
        stages.prune(other, settings, state=StateFile(state, resume=True))
    with pytest.raises(UsageError, match="was made by another command or version of dcomp"):
        stages.quantize(trained, QuantizeSettings(fc_bits=4, epochs=1, **DIGITS), state=StateFile(state, resume=True))


def test_other_files_are_no_state(trained, state, dense_file):
    settings = PruneSettings(sparsity=0.9, epochs=2, until=1, **DIGITS)
    with pytest.raises(CheckpointError, match="is not the state of a stopped run"):
        stages.prune(trained, settings, state=StateFile(dense_file, resume=True))
    state.write_bytes(state.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="is not a readable safetensors file"):
        stages.prune(trained, settings, state=StateFile(state, resume=True))


@pytest.mark.parametrize("part", ["a weight", "the optimizer", "a fact", "the checksum"])
def test_a_flipped_bit_in_a_state_is_one_error(trained, state, part):
    settings = PruneSettings(sparsity=0.9, epochs=2, until=1, **DIGITS)
    data = bytearray(state.read_bytes())
    places = {
        "a weight": data.rindex(safetensors_file.load_file(state).tensors["model.fc3.bias"].tobytes()),
        "the optimizer": len(data) - 100,
        "a fact": data.index(b'step\\": 40') + len(b'step\\": 4'),
        "the checksum": data.index(b"dcomp.checksum") + len(b'dcomp.checksum":"'),
    }
    data[places[part]] ^= 1
    state.write_bytes(data)
    with pytest.raises(CheckpointError, match="checksum does not match; remove it, and start the stage again"):
        stages.prune(trained, settings, state=StateFile(state, resume=True))


def test_a_state_without_a_checksum_is_refused(trained, state):
    read = safetensors_file.load_file(state)
    with state.with_name("without").open("wb") as file:
        safetensors_file.save(Checkpoint(read.tensors, {"dcomp.state": read.metadata["dcomp.state"]}), file)
    settings = PruneSettings(sparsity=0.9, epochs=2, until=1, **DIGITS)
    with pytest.raises(CheckpointError, match="is not the state of a stopped run; remove it, and start"):
        stages.prune(trained, settings, state=StateFile(state.with_name("without"), resume=True))


@pytest.mark.parametrize("options", [[], ["--force"], ["--resume"]])
def test_a_folder_in_the_place_of_a_state_is_refused(tmp_path, dcomp, options):
    (tmp_path / "made.state").mkdir()
    code, _, err = dcomp("train", "lenet300", "--data", "digits", "--epochs", "1", "-o", tmp_path / "made", *options)
    assert (code > 0, err.count("\n"), "made.state" in err) == (True, 1, True)
    assert "epoch" not in err


def test_one_training_at_a_time_writes_a_file(tmp_path, dcomp, monkeypatch):
    monkeypatch.setattr(locks, "LOCK_TIMEOUT", 0)
    path = tmp_path / "made.state"
    path.write_text("of the other")
    with locks.exclusive(tmp_path / ".made.lock", "made"):
        code, _, err = dcomp("train", "lenet300", "--data", "digits", "--epochs", "1", "-o", tmp_path / "made", "-f")
    assert (code, path.read_text()) == (1, "of the other")
    assert f"works in {tmp_path / 'made'}; wait for it" in err


def test_states_are_saved_at_the_ends_of_epochs(tmp_path):
    path = tmp_path / "made.state"
    settings = TrainSettings(architecture="lenet300", epochs=2, **DIGITS)
    stages.train(settings, state=StateFile(path))
    assert not path.exists()
    straight = stages.train(settings, state=StateFile(path, every=0))
    assert json.loads(safetensors_file.load_file(path).metadata["dcomp.state"])["step"] == 2 * STEPS
    assert identical(straight, stages.train(settings, state=StateFile(path, resume=True)))


TRAIN = ["train", "lenet300", "--data", "digits", "--epochs", "400", "--batch-size", "32"]


def started(folder, *arguments):
    command = [sys.executable, "-m", "dcomp", *arguments]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch"):
            return process
    raise AssertionError("it ended before an epoch did")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_state(tmp_path, dcomp, monkeypatch, number):
    process = started(tmp_path, *TRAIN)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    last = err.splitlines()[-1]
    assert last.endswith(f"continue with: dcomp {' '.join(TRAIN)} --resume")
    assert {path.name for path in tmp_path.iterdir()} == {"lenet300.safetensors.state"}
    monkeypatch.chdir(tmp_path)
    code, _, err = dcomp(*TRAIN)
    assert (code, "--resume continues from it, --force starts again" in err) == (1, True)


def test_a_done_stage_has_no_state(tmp_path, dcomp, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = dcomp("train", "lenet300", "--data", "digits", "--epochs", "1", "--save-every", "0")
    assert (code, [path.name for path in tmp_path.iterdir()]) == (0, ["lenet300.safetensors"])
    code, _, err = dcomp("prune", out.strip(), "--sparsity", "0.9", "--epochs", "1", "--resume")
    assert (code, "there is no lenet300.pruned.safetensors.state" in err) == (2, True)


def test_a_run_continues_a_stopped_stage(tmp_path, dcomp, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(
        "name: r\ndata: digits\ntrain: {architecture: lenet300, epochs: 3}\nprune: {sparsity: 0.9, epochs: 30}\n"
    )
    assert dcomp("run", "r.yaml", "--out", "straight", "-q")[0] == 0
    process = started(tmp_path, "run", "r.yaml")
    for line in process.stderr:
        if line.startswith("epoch 5"):
            process.send_signal(signal.SIGINT)
            break
    assert process.communicate(timeout=30)[1].splitlines()[-1].endswith("continue with: dcomp run r.yaml")
    code, _, err = dcomp("run", "r.yaml")
    assert (code, "train: done before" in err, "prune: was stopped before" in err) == (0, True, True)
    for name in ("prune.safetensors", "model.dcz"):
        assert (tmp_path / "runs" / "r" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()
    assert not list((tmp_path / "runs" / "r").glob("*.state"))


@pytest.mark.parametrize(
    ("arguments", "again"),
    [
        (["train", "lenet5", "--resume"], "train lenet5 --resume"),
        (["run", "r.yaml", "-qf", "--set", "eval=null"], "run r.yaml --set eval=null --quiet"),
        (["run", "--set=a=-f", "--tensorboard", "r.yaml", "-f"], "run r.yaml --set a=-f --tensorboard"),
        (["run", "--out", "-f", "--", "-f.yaml"], "run --out -f -- -f.yaml"),
        (["run", "-f", "r.yaml", "--force", "--out", "of"], "run r.yaml --out of"),
        (["sweep", "-fj2", "r.yaml", "--set", "a=1,2", "--set", "b=f"], "sweep r.yaml --set a=1,2 --set b=f --jobs 2"),
        (["demo", "--out", "x"], "demo --out x"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_hint_names_the_command_that_continues(monkeypatch, capsys, arguments, again):
    class Stopped:
        def main(self, *_, **__):
            raise StoppedError("stopped")

    monkeypatch.setattr(app, "command", Stopped)
    assert run(arguments) == 130
    assert capsys.readouterr().err == f"stopped; continue with: dcomp {again}\n"
    monkeypatch.setattr(restarting, "WORLD_SIZE", 2)
    assert run(arguments) == 130
    assert capsys.readouterr().err == "stopped; to continue, start all processes again as before, with --resume\n"


def test_a_stopped_demo_continues_in_its_folder(tmp_path, dcomp, monkeypatch):
    monkeypatch.setattr(training, "NOTIFY_EVERY", 1)
    monkeypatch.setattr(runs, "observer", lambda quiet: StopsAt(3))
    assert dcomp("demo") == (130, "", "interrupted; no file is half written\n")
    code, _, err = dcomp("demo", "--out", tmp_path)
    assert (code, err.endswith(f"continue with: dcomp demo --out {tmp_path}\n")) == (130, True)
    monkeypatch.setattr(runs, "observer", lambda quiet: StopsAt(5))
    assert "stopped in epoch 1 of 25" in dcomp("demo", "--out", tmp_path)[2]
