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
import dcomp.container.writer as w, dcomp.checkpoints.safetensors_file as c
def slowly(write):
    def slow(self, *parts):
        time.sleep(0.02)
        return write(self, *parts)
    return slow
encode, stream = w.encoder.encode_tensor, c.tensors.stream
def late(*a, **k):
    time.sleep(0.05)
    return encode(*a, **k)
w.encoder.encode_tensor = late
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
def test_a_killed_run_keeps_the_old_output(folder, command, after):
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
def test_a_full_disk_keeps_the_old_output(folder, command):
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


def test_every_process_writes_the_same_bytes(folder):
    containers = set()
    for seed in ("0", "1", "77"):
        subprocess.run(
            [sys.executable, "-m", "dcomp", "encode", "m.safetensors", "-f", "-q"],
            cwd=folder,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        containers.add((folder / "m.dcz").read_bytes())
    assert len(containers) == 1


BUSY = """
import os, sys, time
import dcomp.container.writer as w
from dcomp import cli
def busy(*arguments, **settings):
    os.write(1, b"%d\\n" % os.getpid())  # one write: lines of two workers never mix
    {call}
w.encoder.encode_tensor = busy
cli.main(sys.argv[1:])
"""
IN_PYTHON = "time.sleep(100)"
IN_NUMPY = "import ctypes; ctypes.CDLL(None).usleep(100_000_000)"  # a call that hears no signal, as some of zstd's


def start_encoding(folder, call, *arguments, workers=0):
    """Start a command in the middle of encoding; return it, and the ids of the processes that encode."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY.format(call=call), "encode", "m.safetensors", "-o", "new", "-q", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    )
    assert process.stdout is not None
    return process, [int(process.stdout.readline()) for _ in range(max(workers, 1))]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def all_end(pids):
    """Whether processes end within seconds: workers see that their parent has gone, and need a moment for it."""
    deadline = time.monotonic() + 5
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(is_alive, pids))


@pytest.mark.parametrize("call", [IN_PYTHON, IN_NUMPY], ids=["python", "numpy"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_command_and_its_workers(folder, call, workers, number):
    process, pids = start_encoding(folder, call, *(["-w", str(workers)] if workers else []), workers=workers)
    assert list(folder.glob(".dcomp-*.part"))
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(timeout=30) == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    assert time.monotonic() - began < 5
    assert all_end(pids)
    assert {path.name for path in folder.iterdir()} == {"m.safetensors", "m.dcz", "old"}


@pytest.mark.parametrize("call", [IN_PYTHON, IN_NUMPY], ids=["python", "numpy"])
def test_workers_end_with_a_killed_parent(folder, call):
    process, pids = start_encoding(folder, call, "-w", "2", workers=2)
    process.kill()
    process.wait()
    assert all_end(pids)


def test_the_next_run_removes_the_files_of_a_killed_one(folder):
    process, _ = start_encoding(folder, IN_PYTHON)
    process.kill()
    process.wait()
    assert list(folder.glob(".dcomp-*.part"))
    subprocess.run([sys.executable, "-m", "dcomp", "encode", "m.safetensors", "-qf"], cwd=folder, check=True)
    assert not list(folder.glob(".dcomp-*.part"))


def test_a_full_temporary_folder_has_its_own_error(folder, rng):
    """The records of a container wait in a temporary file once they are many."""
    save_file({"w": rng.normal(size=(2300, 2300)).astype(np.float32)}, folder / "large.safetensors")
    done = subprocess.run(
        [sys.executable, "-m", "dcomp", "encode", "large.safetensors", "-q"],
        cwd=folder,
        preexec_fn=small_disk,
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"error: cannot write temporary files in {folder}: ")
    assert done.stderr.endswith("TMPDIR names another folder\n")
    assert not (folder / "large.dcz").exists()


def test_a_full_temporary_folder_stops_a_pipe(folder):
    with (folder / "m.safetensors").open("rb") as source:
        done = subprocess.run(
            [sys.executable, "-m", "dcomp", "encode", "-o", "new.dcz", "-q"],
            cwd=folder,
            stdin=source,
            preexec_fn=small_disk,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write temporary files in ")
    assert not list(folder.glob("new*"))
