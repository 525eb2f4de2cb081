"""Runs that are killed, and disks that are full: the old output stays whole, and no half file takes its name."""

import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import save_file

SLOW = """
import sys, time
import dcomp.container.writer as w, dcomp.checkpoint as c
def slowly(write):
    def slow(self, *parts):
        time.sleep(0.02)
        return write(self, *parts)
    return slow
encode, stream = w.encoder.encode, c.tensors.stream
def late(*a, **k):
    time.sleep(0.05)
    return encode(*a, **k)
w.encoder.encode = late
def one_by_one(tensors):
    for pair in stream(tensors):
        time.sleep(0.05)
        yield pair
c.tensors.stream = one_by_one
from dcomp.cli import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture
def folder(tmp_path, rng):
    tensors = {f"w{i}": rng.normal(size=(100, 100)).astype(np.float32) for i in range(12)}
    save_file(tensors, tmp_path / "m.safetensors")
    subprocess.run([sys.executable, "-m", "dcomp", "encode", "m.safetensors", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "old").write_bytes(b"the old output")
    return tmp_path


@pytest.mark.parametrize("command", ["encode m.safetensors", "decode m.dcz"])
@pytest.mark.parametrize("after", [0.0, 0.2, 0.4])
def test_a_killed_run_leaves_the_old_output_whole(folder, command, after):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *command.split(), "-o", "old", "-f", "-q"], cwd=folder, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 20
    while not list(folder.glob(".dcomp-*.part")) and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert (folder / "old").read_bytes() == b"the old output"
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".dcomp-")} == {
        "m.safetensors",
        "m.dcz",
        "old",
    }


def small_disk():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


@pytest.mark.parametrize("command", ["encode m.safetensors", "decode m.dcz"])
def test_a_full_disk_leaves_the_old_output_whole(folder, command):
    done = subprocess.run(
        [sys.executable, "-m", "dcomp", *command.split(), "-o", "old", "-f", "-q"],
        cwd=folder,
        preexec_fn=small_disk,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: cannot write old: ")
    assert (folder / "old").read_bytes() == b"the old output"
    assert not list(folder.glob(".dcomp-*"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")  # noqa: PTH110  # a device
def test_a_full_device_is_one_error(folder):
    command = [sys.executable, "-m", "dcomp", "encode", "m.safetensors", "-o", "/dev/full", "-q"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: cannot write /dev/full: No space left on device\n"


def test_the_bytes_are_the_same_in_every_process(folder):
    made = set()
    for seed in ("0", "1", "77"):
        subprocess.run(
            [sys.executable, "-m", "dcomp", "encode", "m.safetensors", "-f", "-q"],
            cwd=folder,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        made.add((folder / "m.dcz").read_bytes())
    assert len(made) == 1
