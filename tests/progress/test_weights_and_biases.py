import json
import struct
import sys

import numpy as np
import pytest

from dcomp import stages
from dcomp.errors import UsageError
from dcomp.progress.weights_and_biases import Logged
from dcomp.settings import PruneSettings, QuantizeSettings

BLOCK, HEADER = 1 << 15, struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """Everything that is logged goes into a temporary folder."""
    for variable in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def records(path):
    """Yield the bytes of the records in a run's file, which is a log as LevelDB writes it, after seven bytes."""
    data, place, parts = path.read_bytes(), 7, []
    while place + HEADER.size <= len(data):
        if BLOCK - place % BLOCK < HEADER.size:
            place += BLOCK - place % BLOCK
            continue
        _, size, kind = HEADER.unpack_from(data, place)
        parts.append(data[place + HEADER.size : place + HEADER.size + size])
        place += HEADER.size + size
        if kind in (FULL, LAST):
            yield b"".join(parts)
            parts = []


def logged(folder):
    """The name, group and settings of each run, and all that it logged, as (step, name) -> value."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # as the end of the process does
    runs = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        run, values = None, {}
        for data in records(path):
            record = wandb_internal_pb2.Record.FromString(data)
            if record.HasField("run") and run is None:
                run = record.run
            if record.HasField("history"):
                for item in record.history.item:
                    name = ".".join(item.nested_key) or item.key
                    values[record.history.step.num, name] = json.loads(item.value_json)
        config = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in run.config.update}
        runs.append((run.project, run.display_name, run.run_group, config, values))
    return runs


def curve(values, name):
    return {step: value for (step, key), value in values.items() if key == name}


def test_curves_sparsity_by_layer_and_histograms_are_logged(offline, lenet_like):
    settings = PruneSettings(sparsity=0.9, epochs=2, until=1, data="digits", batch_size=256)
    notes = []
    logger = Logged("digits", "prune", settings.arguments(), notes.append, group="tiny")
    stages.prune(lenet_like, settings, logger)
    [(project, name, group, config, values)] = logged(offline)
    assert (project, name, group) == ("digits", "prune", "tiny")
    assert (config["sparsity"], config["epochs"]) == (0.9, 2)
    for curve_name in ("loss/train", "error/top-1", "sparsity by layer/fc1.weight"):
        assert curve(values, curve_name).keys() == {1, 2}
    assert curve(values, "sparsity")[2] == pytest.approx(0.9, abs=1e-4)
    assert {step for step, key in values if key.startswith("weights/fc1.weight")} == {0, 2}
    assert len(notes) == 1
    assert str(offline) in notes[0]


def test_both_trainings_of_a_stage_are_one_run(offline, lenet_like):
    settings = QuantizeSettings(fc_bits=1, start=1, epochs=3, data="digits", batch_size=256)
    stages.quantize(lenet_like, settings, Logged("digits", "quantize", {}, print))
    [(*_, values)] = logged(offline)
    assert sorted(curve(values, "loss/train")) == [1, 2, 3]


def test_the_command_logs_and_prints_only_its_path(offline, dense_file, dcomp):
    options = ["--sparsity", "0.5", "--epochs", "1", "--data", "digits", "--batch-size", "512"]
    code, out, err = dcomp("prune", dense_file, *options, "--wandb", "project")
    assert (code, out) == (0, f"{dense_file.with_suffix('.pruned.safetensors')}\n")
    assert "Weights & Biases: " in err
    assert [name for _, name, *_ in logged(offline)] == ["prune"]


RECIPE = """
name: tiny
data: digits
train: {architecture: lenet300, epochs: 1, batch_size: 512}
prune: {sparsity: 0.5}
"""


def test_a_recipe_logs_the_stages_that_train_as_a_group(offline, recipe, dcomp):
    assert dcomp("run", recipe, "--wandb", "project", "--out", "out")[0] == 0
    assert [run[:3] for run in logged(offline)] == [("project", "train", "tiny")]
    code, _, err = dcomp("run", recipe, "--wandb", "p", "--set", "train=null", "--set", "checkpoint=out/model.dcz")
    assert (code, "--wandb logs epochs, and no stage of" in err) == (2, True)


def test_without_training_there_is_nothing_to_log(dense_file, dcomp):
    code, _, err = dcomp("prune", dense_file, "--sparsity", "0.5", "--wandb", "project")
    assert (code, err) == (2, "error: --wandb would do nothing without training: give --epochs as well\n")


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match=r"dcomp\[wandb\]"):
        Logged("p", "prune", {}, print)


def test_without_a_login_the_error_says_how(monkeypatch):
    import wandb

    logger = Logged("p", "prune", {}, print)

    def refuse():
        raise wandb.errors.UsageError("No API key configured.")

    monkeypatch.setattr(logger, "_init", refuse)
    with pytest.raises(
        UsageError, match=r"--wandb: No API key configured\.; log in with `wandb login`, or set WANDB_MODE"
    ):
        logger.started(1)


def test_infinite_weights_have_no_histogram(offline):
    logger = Logged("p", "prune", {}, print)
    logger.started(1)
    logger.weights(0, {"w": np.array([[np.inf, 1]], np.float32)})
    [(*_, values)] = logged(offline)
    assert not any(key.startswith("weights/") for _, key in values)
