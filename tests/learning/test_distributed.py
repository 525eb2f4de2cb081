"""Two processes, started by torchrun, train what one does."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from dcomp import checkpoint
from dcomp.learning import distributed

COMMANDS = """
train lenet300 --epochs 2 --batch-size 61 --lr 0.05 -o trained
prune trained --sparsity 0.9 --epochs 2 --until 1 --every 0.25 --batch-size 64 -o pruned --log pruned.csv
quantize pruned --fc-bits 4 --epochs 1 --batch-size 64 -o shared
eval shared --json
"""

SCRIPT = """
import hashlib, pathlib, sys
import torch.distributed as dist
from dcomp.cli import run
from dcomp.learning.session import Session
from dcomp.processes import COUNT, NUMBER

release = Session.tensors
def digested(session):
    digest = hashlib.sha256()
    for name, tensor in session._model.state_dict().items():
        digest.update(tensor.numpy().tobytes())
    with open(f"digests.{NUMBER}", "a") as file:
        print(digest.hexdigest(), file=file)
    return release(session)
Session.tensors = digested
for line in pathlib.Path("commands").read_text().split("\\n"):
    if line:
        code = run([*line.split(), "--data", "digits", "--device", "cpu"])
        if code:
            sys.exit(code)
        if COUNT > 1:
            dist.barrier()
"""


def launch(folder, *command, processes):
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
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folders and the standard outputs of one process and of two."""
    found = []
    for processes in (1, 2):
        folder = tmp_path_factory.mktemp(f"by-{processes}")
        (folder / "script.py").write_text(SCRIPT)
        (folder / "commands").write_text(COMMANDS)
        found.append((folder, launch(folder, "script.py", processes=processes)))
    return found


def test_weights_masks_and_codebooks_are_identical_in_all_processes(runs):
    folder = runs[1][0]
    digests = [(folder / f"digests.{number}").read_text().splitlines() for number in (0, 1)]
    assert len(digests[0]) == 3
    assert digests[0] == digests[1]


def test_two_processes_come_to_the_result_of_one_but_for_the_order_of_sums(runs):
    for name in ("trained", "pruned"):
        one, two = (checkpoint.load_file(folder / name).tensors for folder, _ in runs)
        for tensor in one:
            assert two[tensor] == pytest.approx(one[tensor], abs=1e-5)  # of weights around 0.05
    one, two = (checkpoint.load_file(folder / "shared").tensors for folder, _ in runs)
    for tensor in one:
        assert np.mean((one[tensor] != 0) != (two[tensor] != 0)) < 1e-3


def test_the_first_process_alone_writes_and_speaks(runs):
    (one_folder, one), (two_folder, two) = runs
    assert {path.name for path in two_folder.iterdir()} == {path.name for path in one_folder.iterdir()} | {"digests.1"}
    assert two.stdout.count("\n") == one.stdout.count("\n") == 4
    assert two.stderr.count("epoch 1:") == one.stderr.count("epoch 1:") == 3


def test_the_parts_of_a_batch_make_its_mean_loss(monkeypatch):
    losses = torch.rand(10)
    for count in (1, 2, 3, 4, 16):
        monkeypatch.setattr(distributed, "COUNT", count)
        mean = torch.zeros(())
        for number in range(count):
            monkeypatch.setattr(distributed, "NUMBER", number)
            own, weight = distributed.part_of(torch.arange(10))
            mean += losses[own].mean() * weight / count
        assert mean == pytest.approx(losses.mean())


def test_the_spans_of_an_evaluation_cover_it_once(monkeypatch):
    monkeypatch.setattr(distributed, "COUNT", 3)
    spans = []
    for number in range(3):
        monkeypatch.setattr(distributed, "NUMBER", number)
        spans += distributed.span_of(10)
    assert spans == list(range(10))
