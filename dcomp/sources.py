"""Whatever file holds a checkpoint -> that checkpoint. A file is known by its first bytes, not its name."""

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
"""Starts of torch's zip files and of bare pickles."""


def load_checkpoint(
    path: Path, *, max_memory: int = DEFAULT_MAX_MEMORY, note: Callable[[str], object] = lambda text: None
) -> Checkpoint:
    """Read a safetensors file, an index of shards, a .dcz container, or a file that torch saved.

    Args:
        path: of the file.
        max_memory: bytes that decoding or unpacking may take.
        note: is told what of the file is left out.

    Raises:
        CheckpointError: none of them, or it cannot be read.
        ContainerError: a damaged container.
        UsageError: a folder without an index.
    """
    check_regular(path)
    if path.is_dir():
        path = index_in(path)
    if path.name.endswith(INDEX_SUFFIX):
        return shards.load_index(path)
    start = _start_of(path)
    if start.startswith(layout.MAGIC):
        return Container.open(path, max_memory=max_memory).checkpoint()
    if start.startswith(TORCH_MAGICS) and not _looks_like_safetensors(start):
        from dcomp.learning import torch_files

        return torch_files.load_file(path, max_memory=max_memory, note=note)
    return safetensors_file.load_file(path)


def is_container(path: Path) -> bool:
    """Whether a file begins as a .dcz container.

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

    Args are those of `load_checkpoint`.

    Raises:
        CheckpointError, ContainerError: as `load_checkpoint`.
    """
    if is_container(path):
        return Container.open(path, max_memory=max_memory)
    buffer = io.BytesIO()
    writer.write(load_checkpoint(path, max_memory=max_memory, note=note), buffer)
    return Container(buffer.getbuffer())


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes in hexadecimal, or of those of all files of a sharded checkpoint.

    Raises:
        CheckpointError: it cannot be read, or is a pipe, which can be read only once.
    """
    if path.is_dir():
        path = index_in(path)
    if path.name.endswith(INDEX_SUFFIX):
        return hashlib.sha256("".join(map(_digest_of_file, shards.files_of(path))).encode()).hexdigest()
    return _digest_of_file(path)


def _digest_of_file(path: Path) -> str:
    check_regular(path)
    with reading(path, CheckpointError):
        file = path.open("rb")
    with file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_other_checkpoint(path: Path) -> bool:
    """Whether a file is an index of shards, or begins as a safetensors file or one of torch's."""
    start = _start_of(path)
    return path.name.endswith(INDEX_SUFFIX) or start.startswith(TORCH_MAGICS) or _looks_like_safetensors(start)


def _looks_like_safetensors(start: bytes) -> bool:
    """Whether a plausible header size and a brace come first: a size may happen to spell one of the magics."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 30


def _start_of(path: Path) -> bytes:
    with reading(path, CheckpointError), path.open("rb") as file:
        return file.read(9)
