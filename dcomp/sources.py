"""Any file that holds a checkpoint -> that checkpoint. The first bytes of a file say its format, not its name."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

from dcomp.checkpoints import safetensors_file, shards
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.container import layout, writer
from dcomp.container.reader import DEFAULT_MAX_MEMORY, Container
from dcomp.errors import CheckpointError, ContainerError, reading
from dcomp.system.files import INDEX_SUFFIX, check_regular, index_in

TORCH_MAGICS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""First bytes of torch's zip files and of bare pickles."""


def load_checkpoint(
    path: Path, *, max_memory: int = DEFAULT_MAX_MEMORY, note: Callable[[str], object] = lambda text: None
) -> Checkpoint:
    """Read a safetensors file, an index of shards, a .dcz container, or a file that torch saved.

    Args:
        path: of the file, or of a folder with one index of shards.
        max_memory: bytes that decoding or unpacking may take.
        note: called with a line that says what of the file is left out.

    Raises:
        CheckpointError: the file has none of these formats, or cannot be read.
        ContainerError: a damaged container.
        UsageError: a folder without an index.
    """
    check_regular(path)
    path = index_or_file(path)
    if path.name.endswith(INDEX_SUFFIX):
        return shards.load_index(path)
    start = _start_of(path)
    if start.startswith(layout.MAGIC):
        return Container.open(path, max_memory=max_memory).checkpoint()
    if start.startswith(TORCH_MAGICS) and not _looks_like_safetensors(start):
        from dcomp.learning import torch_files

        return torch_files.load_file(path, max_memory=max_memory, note=note)
    if not _looks_like_safetensors(start):
        raise CheckpointError(
            f"{path} is not a checkpoint: dcomp reads safetensors files, .dcz containers and files that torch saved"
        )
    return safetensors_file.load_file(path)


def index_or_file(path: Path) -> Path:
    """Return the index of shards in a folder, and any other path as it is.

    Raises:
        UsageError: a folder without an index, or with several.
    """
    return index_in(path) if path.is_dir() else path


def files_of(path: Path) -> list[Path]:
    """Return the files of a checkpoint: one, or an index and the shards that it names.

    Raises:
        CheckpointError: a damaged index.
        UsageError: a folder without an index, or with several.
    """
    path = index_or_file(path)
    return shards.files_of(path) if path.name.endswith(INDEX_SUFFIX) and path.is_file() else [path]


def check_openable(path: Path) -> None:
    """Raise CheckpointError for a file that cannot be opened, and UsageError for a folder without an index."""
    path = index_or_file(path)
    with reading(path, CheckpointError), path.open("rb"):
        pass


def is_container(path: Path) -> bool:
    """Return whether a file begins as a .dcz container.

    Raises:
        CheckpointError: it cannot be read.
    """
    return not path.name.endswith(INDEX_SUFFIX) and _start_of(path).startswith(layout.MAGIC)


def open_container(path: Path, *, max_memory: int = DEFAULT_MAX_MEMORY) -> Container:
    """Open a .dcz file.

    Raises:
        ContainerError: it is another file, or damaged.
    """
    try:
        return Container.open(path, max_memory=max_memory)
    except ContainerError as error:
        if path.is_file() and _is_other_checkpoint(path):
            hint = "it begins as a checkpoint, of which dcomp encode makes a container"
            raise ContainerError(f"{path}: not a dcz container; {hint}") from error
        raise


def load_container(
    path: Path, *, max_memory: int = DEFAULT_MAX_MEMORY, note: Callable[[str], object] = lambda text: None
) -> Container:
    """Open a .dcz file; any other checkpoint is encoded in memory, exactly as `encode` would write it.

    The arguments are those of `load_checkpoint`.

    Raises:
        CheckpointError, ContainerError, UsageError: as `load_checkpoint`.
    """
    if is_container(path):
        return Container.open(path, max_memory=max_memory)
    buffer = io.BytesIO()
    writer.write(load_checkpoint(path, max_memory=max_memory, note=note), buffer)
    return Container(buffer.getbuffer())


def digest(path: Path) -> str:
    """Compute the SHA-256 of a file's bytes; of a sharded checkpoint, that of its files' digests. Hexadecimal.

    Raises:
        CheckpointError: it cannot be read, or is a pipe, which can be read only once.
        UsageError: a folder without an index, or with several.
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
    """Return whether a file is an index of shards, or begins as a safetensors file or one of torch's."""
    start = _start_of(path)
    return path.name.endswith(INDEX_SUFFIX) or start.startswith(TORCH_MAGICS) or _looks_like_safetensors(start)


def _looks_like_safetensors(start: bytes) -> bool:
    """Return whether a plausible header size and a brace come first; a size can have the bytes of a magic."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 30


def _start_of(path: Path) -> bytes:
    with reading(path, CheckpointError), path.open("rb") as file:
        return file.read(9)
