"""Any file that holds a checkpoint -> that checkpoint. The first bytes of a file say its format, not its name."""

import hashlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dcomp.checkpoints import folders, foreign, npz_file, safetensors_file, shards
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.container import layout, writer
from dcomp.container.reader import DEFAULT_MAX_MEMORY, Container
from dcomp.errors import CheckpointError, ContainerError, UsageError, reading
from dcomp.system.files import TORCH_INDEX_SUFFIX, check_regular

ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
"""First bytes of zip files, as torch and numpy write them; an empty one has the second."""

PICKLE_MAGICS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""First bytes of pickles, as torch once wrote them."""

START_BYTES = 16
"""Bytes at the beginning of a file that say its format."""

Note = Callable[[str], object]
"""A function that is called with a line about what is left out."""


@dataclass(frozen=True)
class Reading:
    """How a file is read: the limit of memory, the key of a network in the file, and where notes go."""

    max_memory: int
    key: str | None
    note: Note


@dataclass(frozen=True)
class Format:
    """A format of checkpoints: what dcomp calls it, how a file of it begins, and how it is read."""

    name: str
    fits: Callable[[Path, bytes], bool]
    load: Callable[[Path, Reading], Checkpoint]
    has_keys: bool = False


def load_checkpoint(
    path: Path,
    *,
    max_memory: int = DEFAULT_MAX_MEMORY,
    key: str | None = None,
    note: Note = lambda text: None,
) -> Checkpoint:
    """Read a file of any of `FORMATS`, an index of shards, or a folder with one of them.

    Args:
        path: of the file or folder.
        max_memory: bytes that decoding or unpacking may take.
        key: of the network, where a file of torch holds several.
        note: called with a line that says what of the file is left out.

    Raises:
        CheckpointError: the file has none of these formats, or cannot be read.
        ContainerError: a damaged container.
        UsageError: a folder without a checkpoint, or a key for a file that has none.
    """
    check_regular(path)
    if path.is_dir():
        weights = folders.weights_in(path)
        if links := folders.links_out(path):
            note(links)
        return folders.with_texts(load_checkpoint(weights, max_memory=max_memory, key=key, note=note), weights)
    how = Reading(max_memory, key, note)
    if shards.is_index(path):
        _check_key(path, key)
        is_of_torch = path.name.endswith(TORCH_INDEX_SUFFIX)
        return shards.load_index(path, partial(_load_torch, how=how) if is_of_torch else safetensors_file.load_file)
    return _load_file(path, how)


def _load_file(path: Path, how: Reading) -> Checkpoint:
    start = _start_of(path)
    form = _format_of(path, start)
    if form is None:
        raise CheckpointError(_refusal(path, start))
    if not form.has_keys:
        _check_key(path, how.key)
    return form.load(path, how)


def _check_key(path: Path, key: str | None) -> None:
    if key is not None:
        raise UsageError(f"--key chooses a network in a file of torch, and {path} is none: leave --key out")


def _refusal(path: Path, start: bytes) -> str:
    """Return what to say of a file that is no checkpoint."""
    refused = foreign.format_of(path, start)
    if refused is not None:
        return refused.refusal(path)
    *names, last = [form.name for form in FORMATS]
    return f"{path} is not a checkpoint: dcomp reads {', '.join(names)} and {last}"


def _format_of(path: Path, start: bytes) -> Format | None:
    return next((form for form in FORMATS if form.fits(path, start)), None)


def _is_container(path: Path, start: bytes) -> bool:
    return start.startswith(layout.MAGIC)


def _is_safetensors(path: Path, start: bytes) -> bool:
    """Return whether a plausible header size and a brace come first; a size can have the bytes of a magic."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 30


def _is_npz(path: Path, start: bytes) -> bool:
    """Return whether a zip file holds arrays, or is empty or damaged and named so."""
    if names := _zip_names(path, start):
        return any(name.endswith(npz_file.ARRAY_SUFFIX) for name in names)
    return start.startswith(ZIP_MAGICS) and path.suffix.lower() == ".npz"


def _is_of_torch(path: Path, start: bytes) -> bool:
    return start.startswith((*ZIP_MAGICS, *PICKLE_MAGICS)) and foreign.KERAS_PART not in _zip_names(path, start)


def _zip_names(path: Path, start: bytes) -> list[str]:
    """Return the names of the parts of a zip file; [] for a damaged one, and for any other file."""
    if not start.startswith(ZIP_MAGICS):
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except Exception:  # the library may raise anything at a damaged file, of which the error comes later
        return []


def _load_torch(path: Path, how: Reading) -> Checkpoint:
    from dcomp.learning import torch_files

    return torch_files.load_file(path, max_memory=how.max_memory, key=how.key, note=how.note)


FORMATS = (
    Format(
        ".dcz containers", _is_container, lambda path, how: Container.open(path, max_memory=how.max_memory).checkpoint()
    ),
    Format("safetensors files", _is_safetensors, lambda path, how: safetensors_file.load_file(path)),
    Format("numpy's .npz", _is_npz, lambda path, how: npz_file.load_file(path, max_memory=how.max_memory)),
    Format("files that torch saved", _is_of_torch, _load_torch, has_keys=True),
)
"""All formats that are read; the first that fits counts, and others may be added."""


def weights_or_file(path: Path) -> Path:
    """Return the checkpoint in a folder, and any other path as it is.

    Raises:
        UsageError: a folder without a checkpoint, or with several.
    """
    return folders.weights_in(path) if path.is_dir() else path


def files_of(path: Path) -> list[Path]:
    """Return the files of a checkpoint: one, or an index and the shards that it names.

    Raises:
        CheckpointError: a damaged index.
        UsageError: a folder without a checkpoint, or with several.
    """
    path = weights_or_file(path)
    return shards.files_of(path) if shards.is_index(path) and path.is_file() else [path]


def check_openable(path: Path) -> None:
    """Raise CheckpointError for a file that cannot be opened, and UsageError for a folder without a checkpoint."""
    path = weights_or_file(path)
    with reading(path, CheckpointError), path.open("rb"):
        pass


def is_container(path: Path) -> bool:
    """Return whether a file begins as a .dcz container.

    Raises:
        CheckpointError: it cannot be read.
    """
    with reading(path, CheckpointError):  # too long a name
        is_folder = path.is_dir()
    return not is_folder and _is_container(path, _start_of(path))


def open_container(path: Path, *, max_memory: int = DEFAULT_MAX_MEMORY) -> Container:
    """Open a .dcz file.

    Raises:
        ContainerError: it is another file, or damaged.
    """
    try:
        return Container.open(path, max_memory=max_memory)
    except ContainerError as error:
        if _is_other_checkpoint(path):
            hint = "it begins as a checkpoint, of which dcomp encode makes a container"
            raise ContainerError(f"{path}: not a dcz container; {hint}") from error
        raise


def load_container(
    path: Path,
    *,
    max_memory: int = DEFAULT_MAX_MEMORY,
    key: str | None = None,
    note: Note = lambda text: None,
) -> Container:
    """Open a .dcz file; any other checkpoint is encoded in memory, exactly as `encode` would write it.

    The arguments are those of `load_checkpoint`.

    Raises:
        CheckpointError, ContainerError, UsageError: as `load_checkpoint`.
    """
    if is_container(path) and key is None:
        return Container.open(path, max_memory=max_memory)
    buffer = io.BytesIO()
    writer.write(load_checkpoint(path, max_memory=max_memory, key=key, note=note), buffer)
    return Container(buffer.getbuffer())


def digest(path: Path) -> str:
    """Compute the SHA-256 of a file's bytes; of a sharded checkpoint, that of its files' digests. Hexadecimal.

    Raises:
        CheckpointError: it cannot be read, or is a pipe, which can be read only once.
        UsageError: a folder without a checkpoint, or with several.
    """
    digests = list(map(_digest_of_file, files_of(path)))
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _digest_of_file(path: Path) -> str:
    check_regular(path)
    with reading(path, CheckpointError):
        file = path.open("rb")
    with file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_other_checkpoint(path: Path) -> bool:
    """Return whether a path is a checkpoint but no container.

    Raises:
        UsageError: a folder without a checkpoint, or with several.
    """
    path = weights_or_file(path)
    if not path.is_file():
        return False
    start = _start_of(path)
    return shards.is_index(path) or (not _is_container(path, start) and _format_of(path, start) is not None)


def _start_of(path: Path) -> bytes:
    with reading(path, CheckpointError), path.open("rb") as file:
        return file.read(START_BYTES)
