"""Temporary files and folders, which are removed even after a process was killed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dcomp.errors import OutputError
from dcomp.system import locks

PART_PREFIX, PART_SUFFIX = ".dcomp-", ".part"
"""Of the names of temporary files and folders; the process that fills one holds a lock on it."""

_parts: set[Path] = set()
"""The temporary files and folders of this process."""


class Scratch(tempfile.SpooledTemporaryFile[bytes]):
    """A temporary file without a name, small ones in memory; its errors name the temporary folder."""

    def write(self, data: Any) -> int:
        """Write `data`.

        Raises:
            OutputError: the temporary folder is full.
        """
        with writing_temporary_files():
            return super().write(data)

    def seek(self, *position: int) -> int:
        """Move to a position; raise as `write`."""
        with writing_temporary_files():
            return super().seek(*position)

    def close(self) -> None:
        """Remove the file; raise as `write`."""
        with writing_temporary_files():
            super().close()


@contextmanager
def writing_temporary_files() -> Iterator[None]:
    """Raise OutputError for a system error of a block that writes temporary files, with their folder and what to do."""
    try:
        yield
    except OSError as error:
        folder = tempfile.tempdir or "the temporary folder"
        reason = error.strerror or error
        raise OutputError(f"cannot write temporary files in {folder}: {reason}; TMPDIR names another folder") from error


@contextmanager
def part(folder: Path, *, is_folder: bool = False) -> Iterator[Path]:
    """Make a locked temporary file or folder, and remove it after the block; remove leftovers of killed processes.

    Raises:
        OSError: it cannot be created.
    """
    _remove_stale(folder)
    handle, path = _new_folder(folder) if is_folder else _new_file(folder)
    while not locks.claimed(handle, path):  # another process removed it before it was locked
        os.close(handle)
        handle, path = _new_folder(folder) if is_folder else _new_file(folder)
    _parts.add(path)
    try:
        yield path
    finally:
        _remove(path)
        _parts.discard(path)
        os.close(handle)


def remove_parts() -> None:
    """Remove the temporary files of this process, before it ends at once."""
    for path in list(_parts):
        _remove(path)


def _new_file(folder: Path) -> tuple[int, Path]:
    handle, name = tempfile.mkstemp(prefix=PART_PREFIX, suffix=PART_SUFFIX, dir=folder)
    return handle, Path(name)


def _new_folder(folder: Path) -> tuple[int, Path]:
    path = Path(tempfile.mkdtemp(prefix=PART_PREFIX, suffix=PART_SUFFIX, dir=folder))
    return os.open(path, os.O_RDONLY), path


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def is_part(path: Path) -> bool:
    """Return whether a path has the name of a temporary file."""
    return path.name.startswith(PART_PREFIX) and path.name.endswith(PART_SUFFIX)


def _remove_stale(folder: Path) -> None:
    """Remove the temporary files that no process holds a lock on."""
    for path in folder.glob(f"{PART_PREFIX}*{PART_SUFFIX}"):
        with suppress(OSError):  # gone meanwhile, another user's, or locked
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                locks.lock(handle)
                _remove(path)
            finally:
                os.close(handle)
