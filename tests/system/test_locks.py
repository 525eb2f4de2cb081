import os
import subprocess
import sys
import time

import pytest

from dcomp.errors import OutputError
from dcomp.system import locks

HOLDER = """
import sys, time
from pathlib import Path
from dcomp.system import locks
with locks.exclusive(Path(sys.argv[1]), "here"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds a lock on `tmp_path / "lock"`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_lock_names_the_process_that_holds_it(tmp_path, monkeypatch, holder):
    monkeypatch.setattr(locks, "LOCK_TIMEOUT", 0)
    message = f"process {holder.pid} on .* works in here; wait for it, stop it, or name another output"
    with pytest.raises(OutputError, match=message), locks.exclusive(tmp_path / "lock", "here"):
        pass


def test_a_lock_ends_with_a_killed_process(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert (tmp_path / "lock").exists()
    with locks.exclusive(tmp_path / "lock", "here"):
        assert (tmp_path / "lock").read_text().startswith(f"{os.getpid()} on ")
    assert not (tmp_path / "lock").exists()


def test_a_lock_is_awaited(tmp_path, holder):
    subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {holder.pid}"])
    began = time.monotonic()
    with locks.exclusive(tmp_path / "lock", "here"):
        assert time.monotonic() - began > 0.2


def test_a_fork_does_not_keep_the_lock_of_its_parent(tmp_path):
    with locks.exclusive(tmp_path / "lock", "here"):
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
    try:
        with locks.exclusive(tmp_path / "lock", "here"):
            pass
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_an_unwritable_lock_is_one_error(tmp_path):
    (tmp_path / "lock").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*lock"), locks.exclusive(tmp_path / "lock", "here"):
        pass
