"""Files that are complete or absent: they are written under another name, and renamed."""

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dcomp.errors import CheckpointError, OutputError, reading
from dcomp.system.temporary import PART_PREFIX, PART_SUFFIX, is_part, part

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


INDEX_SUFFIX, TORCH_INDEX_SUFFIX = ".safetensors.index.json", ".bin.index.json"

INDEX_SUFFIXES = (INDEX_SUFFIX, TORCH_INDEX_SUFFIX)
"""Ends of the names of indices of shards: those of safetensors files, and those that torch saved."""


def check_regular(path: Path) -> None:
    """Raise CheckpointError for a device or a pipe, which cannot be read twice, and for an impossible path."""
    with reading(path, CheckpointError):  # too long a name
        is_special = path.exists() and not (path.is_file() or path.is_dir())
    if is_special:
        raise CheckpointError(f"{path} is a pipe or device, and would be read more than once; write it to a file first")


class Counted(io.BytesIO):
    """A stream that counts the bytes written to it and keeps none."""

    def __init__(self) -> None:
        """Start at 0."""
        super().__init__()
        self.nbytes = 0

    def write(self, data: "ReadableBuffer") -> int:
        """Count `data`."""
        size = memoryview(data).nbytes
        self.nbytes += size
        return size


def check_replaceable(path: Path, *, force: bool) -> None:
    """Check that a file can be written and, without `force`, does not exist; before the work and before the write.

    Raises:
        OutputError: the file exists, is a folder, or its folder does not exist or is not writable.
    """
    if "\0" in str(path):
        raise OutputError(f"{str(path)!r} cannot be the name of a file")
    with _writing(path):
        with suppress(FileNotFoundError):
            path.stat()
        if path.is_dir():
            raise OutputError(f"{path} is a folder; name a file")
        if path.is_file() and not force:
            raise OutputError(f"{path} exists; --force replaces it, or name another file")
        if not path.exists() or path.is_file():
            check_writable((path.resolve() if path.is_symlink() else path).parent)


def make_folder(folder: Path) -> None:
    """Create a folder and the folders above it; an existing folder stays as it is.

    Raises:
        OutputError: a file has the name of one of them, or the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        file = next((path for path in (folder, *folder.parents) if path.is_file()), None)
        if file is not None:
            raise OutputError(f"{file} is a file where a folder is needed; name another folder") from error
        raise OutputError(f"cannot create the folder {folder}: {error.strerror}; name another folder") from error


def check_writable(folder: Path) -> None:
    """Raise OutputError unless files can be created in a folder."""
    if not folder.is_dir():
        if folder.exists():
            raise OutputError(f"{folder} is a file; name a folder")
        raise OutputError(f"the folder {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write in the folder {folder}: permission denied")


@contextmanager
def replacing(path: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for writing, and rename it to `path` after the block.

    An error, a full disk or Ctrl-C in the block leaves `path` as it was. Devices and named pipes, which a rename would
    replace, are written in place.

    Raises:
        OutputError: the file exists and `force` is not given, or it cannot be written.
    """
    check_replaceable(path, force=force)
    if path.exists() and not path.is_file():
        with _writing(path), path.open("wb") as device:
            yield device
        return
    with _writing(path):
        target = path.resolve()  # a link stays; its target is replaced
    with _writing(path), part(target.parent) as temporary:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(_new_file_mode(target))
        temporary.replace(target)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no links; replace a file of that name.

    If `replacing` writes one of the two later, the other stays.

    Raises:
        OutputError: it can be neither linked nor copied.
    """
    link = target.with_name(f"{PART_PREFIX}{os.getpid()}-{target.name}{PART_SUFFIX}")
    try:
        link.hardlink_to(source)
        link.replace(target)
    except OSError:
        with source.open("rb") as original, replacing(target, force=True) as file:
            shutil.copyfileobj(original, file)
    finally:
        link.unlink(missing_ok=True)  # a rename onto the same file leaves it


@contextmanager
def replacing_files(folder: Path, *, force: bool = False) -> Iterator[Path]:
    """Make a temporary folder for files that move to `folder` after the block.

    A new folder appears with all of them. In an existing folder they replace the files of the same names, one after the
    other; all other files stay.

    Raises:
        OutputError: there are files and `force` is not given, or they cannot be written.
    """
    check_folder(folder, force=force)
    target = folder.resolve()
    inside = target.is_dir()
    with _writing(folder), part(target if inside else target.parent, is_folder=True) as temporary:
        filled = temporary / "new"  # with the mode of a new folder
        filled.mkdir()
        yield filled
        for file in filled.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
            if inside:
                check_replaceable(target / file.name, force=force)
        if inside:
            for file in sorted(filled.iterdir()):
                file.replace(target / file.name)
        else:
            filled.rename(target)


def check_folder(folder: Path, *, force: bool) -> None:
    """Raise OutputError unless a folder is new or empty, or `force` is given, and files can be written to it."""
    with _writing(folder):
        if not folder.exists():
            check_writable(folder.parent)
        elif not folder.is_dir():
            raise OutputError(
                f"{folder} is a file; the checkpoint goes to a folder, or name a .safetensors file for one file"
            )
        elif not force and any(not is_part(path) for path in folder.iterdir()):
            raise OutputError(f"{folder} exists; --force replaces the files of the same names in it, -o names another")
        else:
            check_writable(folder)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Raise OutputError for a system error of a block that writes `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _new_file_mode(path: Path) -> int:
    """Return the mode of an existing file, else the mode of a new one under the umask."""
    if path.exists():
        return path.stat().st_mode & 0o7777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
