"""Files that are whole or not there at all."""

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dcomp.errors import OutputError, UsageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


INDEX_SUFFIX = ".safetensors.index.json"
"""What the name of an index of shards ends in."""


def index_in(folder: Path) -> Path:
    """The one index of shards in a folder.

    Raises:
        UsageError: there is none, or more than one.
    """
    found = sorted(folder.glob(f"*{INDEX_SUFFIX}"))
    if len(found) != 1:
        raise UsageError(f"{folder} is a folder with {len(found) or 'no'} *{INDEX_SUFFIX} in it; name a file")
    return found[0]


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


def check_replaceable(path: Path, *, force: bool) -> None:
    """Refuse an existing file unless `force`; called before the work as well as before the write.

    Raises:
        OutputError: the file exists, is a folder, or its folder does not exist.
    """
    try:
        path.stat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    if path.is_dir():
        raise OutputError(f"{path} is a folder; name a file")
    if path.is_file() and not force:
        raise OutputError(f"{path} exists; --force replaces it, or name another file")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent} is not a folder; create it first")


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
        try:
            with path.open("wb") as device:
                yield device
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
        return
    target = path.resolve()  # a link stays a link; what it points to is replaced
    try:
        handle, temporary = tempfile.mkstemp(prefix=".dcomp-", suffix=".part", dir=target.parent)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    try:
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(_new_file_mode(target))
            Path(temporary).replace(target)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no links; what was there is replaced.

    Whoever replaces one of the two by `replacing` leaves the other as it is.

    Raises:
        OutputError: it can be neither linked nor copied.
    """
    link = target.with_name(f".dcomp-{os.getpid()}-{target.name}.part")
    try:
        link.hardlink_to(source)
        link.replace(target)
    except OSError:
        with source.open("rb") as original, replacing(target, force=True) as file:
            shutil.copyfileobj(original, file)
    finally:
        link.unlink(missing_ok=True)  # a name of the file that was there already stays


@contextmanager
def replacing_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Fill a temporary sibling folder and rename it to `path` once the block has ended well.

    Raises:
        OutputError: there is something and `force` is not given, or the folder cannot be written.
    """
    check_folder(path, force=force)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=".dcomp-", suffix=".part", dir=path.parent))
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    filled, old = temporary / "new", temporary / "old"
    try:
        filled.mkdir()
        yield filled
        if path.exists():
            path.rename(old)
        filled.rename(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_folder(path: Path, *, force: bool) -> None:
    """Raise OutputError if a folder may not be written there."""
    if path.exists() and (not force or not path.is_dir()):
        raise OutputError(f"{path} exists; --force replaces a folder, -o names another")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent} is not a folder; create it first")


def _new_file_mode(path: Path) -> int:
    """The mode an existing file has, else the one that the umask leaves to a new file."""
    if path.exists():
        return path.stat().st_mode & 0o7777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
