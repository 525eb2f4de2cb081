"""Two processes, started by torchrun, train what one does."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from dcomp import cli
from dcomp.checkpoints import safetensors_file
from dcomp.cli import app
from dcomp.errors import CheckpointError, DataError, UsageError
from dcomp.learning import distributed
from dcomp.learning.datasets.photos import PhotoDecoding
from dcomp.system import cores

COMMANDS = """
train lenet300 --data digits --epochs 2 --batch-size 61 --lr 0.05 -o trained
prune trained --data digits --sparsity 0.9 --epochs 2 --until 1 --every 0.25 --batch-size 64 -o pruned --log pruned.csv
quantize pruned --data digits --fc-bits 4 --start 1 --epochs 2 --batch-size 64 -o shared
eval shared --data digits --json
train lenet5 --data imagefolder:photos --cache cache --grayscale --crop 28 --augment none --epochs 1 -o of-photos
train planes:network --data planes:task --epochs 2 --batch-size 61 --lr 0.05 --val-split 0.3 -o of-a-task
eval of-a-task --arch planes:network --data planes:task --json
"""

TASK = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
import dcomp

def points(count):
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(count))
    return TensorDataset(x, x.sum(1, keepdim=True))

def network():
    return nn.Linear(4, 1)

def loss(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()

def metrics(model, batch):
    return {"distance": (model(batch[0]) - batch[1]).abs().mean()}

def task():
    return dcomp.Task(train=points(300), test=points(1), loss=loss, metrics=metrics, judge="distance")
"""

SCRIPT = """
import hashlib, pathlib, sys
import torch.distributed as dist
from dcomp.cli import run
from dcomp.learning.session import Session
from dcomp.system.ranks import RANK, WORLD_SIZE

release = Session.tensors
def digested(session):
    digest = hashlib.sha256()
    for name, tensor in session.model.state_dict().items():
        digest.update(tensor.numpy().tobytes())
    with open(f"digests.{RANK}", "a") as file:
        print(digest.hexdigest(), file=file)
    return release(session)
Session.tensors = digested
for line in pathlib.Path("commands").read_text().split("\\n"):
    if line:
        code = run([*line.split(), "--device", "cpu"])
        if code:
            sys.exit(code)
        if WORLD_SIZE > 1:
            dist.barrier()
"""


def write_photos(folder):
    rng = np.random.default_rng(0)
    for number in range(24):
        path = folder / ("train" if number % 3 else "val") / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)


def launch(folder, *command, processes, code=0):
    """Run a script or module in so many processes; what they print."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *(launcher if processes > 1 else []), *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folders and the standard outputs of one process and of two."""
    found = []
    for processes in (1, 2):
        folder = tmp_path_factory.mktemp(f"by-{processes}")
        (folder / "script.py").write_text(SCRIPT)
        (folder / "commands").write_text(COMMANDS)
        (folder / "planes.py").write_text(TASK)
        write_photos(folder / "photos")
        found.append((folder, launch(folder, "script.py", processes=processes)))
    return found


def test_all_processes_have_identical_networks(runs):
    folder = runs[1][0]
    digests = [(folder / f"digests.{number}").read_text().splitlines() for number in (0, 1)]
    assert len(digests[0]) == 6
    assert digests[0] == digests[1]


def test_two_processes_train_what_one_does(runs):
    for name in ("trained", "pruned", "of-photos", "of-a-task"):
        one, two = (safetensors_file.load_file(folder / name).tensors for folder, _ in runs)
        for tensor in one:
            assert two[tensor] == pytest.approx(one[tensor], abs=1e-5)  # of weights around 0.05
    one, two = (safetensors_file.load_file(folder / "shared").tensors for folder, _ in runs)
    for tensor in one:
        assert np.mean((one[tensor] != 0) != (two[tensor] != 0)) < 1e-3
        assert np.unique(two[tensor]) == pytest.approx(np.unique(one[tensor]), abs=1e-4)


def test_two_processes_measure_what_one_does_even_where_one_has_no_example(runs):
    one, two = (json.loads(launched.stdout.splitlines()[-1]) for _, launched in runs)
    assert one["count"] == two["count"] == 1
    assert two["distance"] == pytest.approx(one["distance"], rel=1e-4)


def test_the_first_process_alone_writes_and_speaks(runs):
    (one_folder, one), (two_folder, two) = runs
    assert {path.name for path in two_folder.iterdir()} == {path.name for path in one_folder.iterdir()} | {"digests.1"}
    assert two.stdout.count("\n") == one.stdout.count("\n") == 7
    assert two.stderr.count("epoch 1:") == one.stderr.count("epoch 1:") == 5
    assert two.stderr.count("are decoded into") == one.stderr.count("are decoded into") == 1


def test_data_that_the_first_process_cannot_have_are_one_error(tmp_path):
    train = ["train", "lenet5", "--data", "imagefolder:absent", "--device", "cpu"]
    done = launch(tmp_path, "-m", "dcomp", *train, processes=2, code=1)
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: absent and ")
    assert "no such folder of photos" in error


@pytest.mark.parametrize("name", sorted(set(app.command().commands) - set(app.DISTRIBUTED_COMMANDS)))
def test_commands_for_one_process_are_refused_in_several(dcomp, monkeypatch, name):
    monkeypatch.setattr(app, "WORLD_SIZE", 2)
    code, out, err = dcomp(name, "x")
    assert (code, out) == (2, "")
    assert err == f"error: {name} is for one process; torchrun starts train, prune, finetune, quantize, eval\n"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UsageError("x"), ""),
        (CheckpointError("x"), ""),
        (DataError("x"), "error: process 1: x\n"),
        (MemoryError(), "error: process 1: not enough memory\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_processes_report_their_errors(monkeypatch, capsys, error, told):
    class Failing:
        def main(self, *_, **__):
            raise error

    monkeypatch.setattr(app, "command", Failing)
    monkeypatch.setattr(cli, "IS_FIRST", False)
    monkeypatch.setattr(cli, "RANK", 1)
    assert cli.run(["train"]) == getattr(error, "exit_code", 1)
    assert capsys.readouterr().err == told


def test_processes_share_the_cores_of_a_machine(monkeypatch):
    monkeypatch.setattr(cores, "allowed", lambda: 8)
    assert [PhotoDecoding().processes(sharing) for sharing in (1, 2, 16)] == [8, 4, 1]
    assert PhotoDecoding(workers=3).processes(2) == 3


def test_the_parts_of_a_batch_make_its_mean_loss(monkeypatch):
    losses = torch.rand(10)
    for count in (1, 2, 3, 4, 16):
        monkeypatch.setattr(distributed, "WORLD_SIZE", count)
        mean = torch.zeros(())
        for number in range(count):
            monkeypatch.setattr(distributed, "RANK", number)
            own, weight = distributed.part_of(torch.arange(10))
            mean += losses[own].mean() * weight / count
        assert mean == pytest.approx(losses.mean())


def test_the_spans_of_an_evaluation_cover_it_once(monkeypatch):
    monkeypatch.setattr(distributed, "WORLD_SIZE", 3)
    spans = []
    for number in range(3):
        monkeypatch.setattr(distributed, "RANK", number)
        spans += distributed.span_of(10)
    assert spans == list(range(10))
