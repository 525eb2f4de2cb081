"""Files that are whole or not there at all."""

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from dcomp.errors import CheckpointError, OutputError, UsageError, reading
from dcomp.system import locks

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


INDEX_SUFFIX = ".safetensors.index.json"
"""What the name of an index of shards ends in."""

PART_PREFIX, PART_SUFFIX = ".dcomp-", ".part"
"""Of the names of temporary files and folders; the process that fills one holds a lock on it."""

_parts: set[Path] = set()
"""Those of this process."""


def index_in(folder: Path) -> Path:
    """Return the only index of shards in a folder.

    Raises:
        UsageError: there is none, or more than one.
    """
    found = sorted(folder.glob(f"*{INDEX_SUFFIX}"))
    if len(found) != 1:
        raise UsageError(f"{folder} is a folder with {len(found) or 'no'} *{INDEX_SUFFIX} in it; name a file")
    return found[0]


def check_regular(path: Path) -> None:
    """Raise CheckpointError for a device or a pipe, where a file is read more than once, or a path that no file has."""
    with reading(path, CheckpointError):  # too long a name
        is_special = path.exists() and not (path.is_file() or path.is_dir())
    if is_special:
        raise CheckpointError(f"{path} is a pipe or device, and would be read more than once; write it to a file first")


class Counted(io.BytesIO):
    """A stream that counts the bytes written to it and keeps none."""

    def __init__(self) -> None:
        """Begin at 0."""
        super().__init__()
        self.nbytes = 0

    def write(self, data: "ReadableBuffer") -> int:
        """Count `data`."""
        size = memoryview(data).nbytes
        self.nbytes += size
        return size


class Scratch(tempfile.SpooledTemporaryFile[bytes]):
    """A temporary file without a name, the first of its bytes in memory; its errors name the temporary folder."""

    def write(self, data: Any) -> int:
        """Add `data`.

        Raises:
            OutputError: the temporary folder is full.
        """
        with temporary_folder_named():
            return super().write(data)

    def seek(self, *place: int) -> int:
        """Go to a place, with what is written before on the disk; raises as `write`."""
        with temporary_folder_named():
            return super().seek(*place)

    def close(self) -> None:
        """Forget the file; raises as `write`."""
        with temporary_folder_named():
            super().close()


@contextmanager
def temporary_folder_named() -> Iterator[None]:
    """A block that writes temporary files.

    Raises:
        OutputError: for an OSError, with the folder and what to do.
    """
    try:
        yield
    except OSError as error:
        folder = tempfile.tempdir or "the temporary folder"
        what = error.strerror or error
        raise OutputError(f"cannot write temporary files in {folder}: {what}; TMPDIR names another folder") from error


def check_replaceable(path: Path, *, force: bool) -> None:
    """Refuse an existing file unless `force`; called before the work as well as before the write.

    Raises:
        OutputError: the file exists, is a folder, or its folder does not exist or is not writable.
    """
    if "\0" in str(path):
        raise OutputError(f"{str(path)!r} cannot be the name of a file")
    with _blamed(path):
        with suppress(FileNotFoundError):
            path.stat()
        if path.is_dir():
            raise OutputError(f"{path} is a folder; name a file")
        if path.is_file() and not force:
            raise OutputError(f"{path} exists; --force replaces it, or name another file")
        if not path.exists() or path.is_file():
            check_writable((path.resolve() if path.is_symlink() else path).parent)


def check_writable(folder: Path) -> None:
    """Raise OutputError unless it is a folder in which files can be made."""
    if not folder.is_dir():
        if folder.exists():
            raise OutputError(f"{folder} is a file; name a folder")
        raise OutputError(f"the folder {folder} is not there; create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write in the folder {folder}: permission denied")


@contextmanager
def replacing(path: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary sibling for writing and rename it to `path` once the block has ended well.

    Whatever stops the block (an error, a full disk, Ctrl-C) leaves `path` as it was. Devices and
    named pipes, which a rename would replace by a file, are written in place.

    Raises:
        OutputError: the file exists and `force` is not given, or it cannot be written.
    """
    check_replaceable(path, force=force)
    if path.exists() and not path.is_file():
        with _blamed(path), path.open("wb") as device:
            yield device
        return
    with _blamed(path):
        target = path.resolve()  # a link stays a link; what it points to is replaced
    with _blamed(path), part(target.parent) as temporary:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(_new_file_mode(target))
        temporary.replace(target)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no links; what was there is replaced.

    Whoever replaces one of the two by `replacing` leaves the other as it is.

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
        link.unlink(missing_ok=True)  # a name of the file that was there already stays


@contextmanager
def replacing_files(folder: Path, *, force: bool = False) -> Iterator[Path]:
    """Fill a temporary folder whose files go to `folder` once the block has ended well.

    A folder that is not there appears with all of them. In one that is there they replace the files of the same names,
    each when it is whole, and all else stays.

    Raises:
        OutputError: there are files and `force` is not given, or they cannot be written.
    """
    check_folder(folder, force=force)
    target = folder.resolve()
    inside = target.is_dir()
    with _blamed(folder), part(target if inside else target.parent, is_folder=True) as temporary:
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
    """Raise OutputError if files may not be written to a folder there, empty or not yet made, or with `force`."""
    with _blamed(folder):
        if not folder.exists():
            check_writable(folder.parent)
        elif not folder.is_dir():
            raise OutputError(f"{folder} is a file; shards need a folder, or name a .safetensors file for one file")
        elif not force and any(not _is_part(path) for path in folder.iterdir()):
            raise OutputError(f"{folder} exists; --force replaces the files of the same names in it, -o names another")
        else:
            check_writable(folder)


@contextmanager
def part(folder: Path, *, is_folder: bool = False) -> Iterator[Path]:
    """A temporary file or folder in a folder, locked, and removed after the block; those of killed processes go first.

    Raises:
        OSError: it cannot be made.
    """
    _remove_stale(folder)
    handle, path = _new_folder(folder) if is_folder else _new_file(folder)
    while not locks.claimed(handle, path):  # taken for a stale one, before it was locked
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
    """Remove the temporary files of this process, which is about to end at once."""
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


def _is_part(path: Path) -> bool:
    return path.name.startswith(PART_PREFIX) and path.name.endswith(PART_SUFFIX)


def _remove_stale(folder: Path) -> None:
    """Remove the temporary files that nobody holds a lock on any more."""
    for path in folder.glob(f"{PART_PREFIX}*{PART_SUFFIX}"):
        with suppress(OSError):  # gone meanwhile, another user's, or locked
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                locks.lock(handle)
                _remove(path)
            finally:
                os.close(handle)


@contextmanager
def _blamed(path: Path) -> Iterator[None]:
    """A block whose system errors are about `path`.

    Raises:
        OutputError: for an OSError.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _new_file_mode(path: Path) -> int:
    """The mode an existing file has, else the one that the umask leaves to a new file."""
    if path.exists():
        return path.stat().st_mode & 0o7777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
