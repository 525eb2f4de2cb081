"""Locks that end with the process that holds them, also where it was killed: nothing stale is left."""

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dcomp.errors import OutputError

try:
    import fcntl
except ImportError:  # a system without file locks, where nothing is locked
    fcntl = None  # type: ignore[assignment]

PATIENCE = 2.0
"""Seconds that a process may take to end after the one that started it was killed."""

_held: set[int] = set()
"""Open lock files of this process; a fork that kept them open would hold the locks after its parent was killed."""


def lock(handle: int) -> None:
    """Lock an open file against all others who open it, without waiting.

    Raises:
        BlockingIOError: another holds the lock.
        OSError: the system, or the file system, has no locks.
    """
    if fcntl is None:
        raise OSError(errno.ENOTSUP, "no file locks")
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def claimed(handle: int, path: Path) -> bool:
    """Lock a file just opened; False if another was first, who may have removed it since.

    Where there are no locks nobody is first, and the file is ours.
    """
    try:
        lock(handle)
    except BlockingIOError:
        return False
    except OSError:
        return True
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def held(path: Path, place: str) -> Iterator[None]:
    """A block during which a lock file says that this process works at a place.

    Args:
        path: of the lock file, which goes at the end of the block.
        place: what is locked, for the error: a folder, or a file.

    Raises:
        OutputError: another process works there, or the lock file cannot be written.
    """
    try:
        handle = _open(path, place)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    _held.add(handle)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the lock goes: nobody else's is removed
        _held.discard(handle)
        os.close(handle)


def _open(path: Path, place: str) -> int:
    deadline = time.monotonic() + PATIENCE
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        if claimed(handle, path):
            os.ftruncate(handle, 0)
            os.write(handle, f"{os.getpid()} on {socket.gethostname()}\n".encode())
            return handle
        holder = os.pread(handle, 200, 0).decode(errors="replace").strip()
        os.close(handle)
        if time.monotonic() > deadline:
            process = f"process {holder}" if holder else "another process"
            raise OutputError(f"{process} is at work in {place}; wait for it, stop it, or name another output")
        time.sleep(0.05)


def _let_go() -> None:
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
