"""File locks, which end with the process that holds them, even if it is killed."""

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

LOCK_TIMEOUT = 2.0
"""Seconds to wait for a lock: after its parent was killed, a process may need this time to end."""

_open_locks: set[int] = set()
"""Lock files that this process has open; a fork closes them, or it would hold the locks after its parent was killed."""


def lock(handle: int) -> None:
    """Lock an open file against all other processes, without waiting.

    Raises:
        BlockingIOError: another holds the lock.
        OSError: the system, or the file system, has no locks.
    """
    if fcntl is None:
        raise OSError(errno.ENOTSUP, "no file locks")
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def claimed(handle: int, path: Path) -> bool:
    """Lock a file that was just opened; return whether this process has the lock and the file still exists.

    Another process may have locked it before, and removed it. Without file locks it is always True.
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
def exclusive(path: Path, place: str) -> Iterator[None]:
    """Hold a lock file during a block, and remove it afterwards.

    Args:
        path: of the lock file.
        place: the folder or file in which only one process may work, for the error.

    Raises:
        OutputError: another process works there, or the lock file cannot be written.
    """
    try:
        handle = _open(path, place)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    _open_locks.add(handle)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is locked, so that it is not that of another process
        _open_locks.discard(handle)
        os.close(handle)


def _open(path: Path, place: str) -> int:
    deadline = time.monotonic() + LOCK_TIMEOUT
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
            raise OutputError(f"{process} works in {place}; wait for it, stop it, or name another output")
        time.sleep(0.05)


def _close_locks() -> None:
    for handle in _open_locks:
        os.close(handle)
    _open_locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_locks)
