"""Whatever file holds a checkpoint -> that checkpoint. A file is known by its first bytes, not its name."""

import io
from pathlib import Path

from dcomp import checkpoint, shards
from dcomp.checkpoint import Checkpoint
from dcomp.container import layout, writer
from dcomp.container.reader import DEFAULT_MAX_MEMORY, Container
from dcomp.errors import CheckpointError
from dcomp.files import INDEX_SUFFIX

TORCH_MAGICS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""Starts of torch's zip files and of bare pickles."""


def load_checkpoint(path: Path, *, max_memory: int = DEFAULT_MAX_MEMORY) -> Checkpoint:
    """Read a safetensors file, an index of shards, a .dcz container, or a file that torch saved.

    Raises:
        CheckpointError: none of them, or it cannot be read.
        ContainerError: a damaged container.
    """
    if path.name.endswith(INDEX_SUFFIX):
        return shards.load_index(path)
    start = _start_of(path)
    if start.startswith(layout.MAGIC):
        return Container.open(path).checkpoint(max_memory=max_memory)
    if start.startswith(TORCH_MAGICS) and not _looks_like_safetensors(start):
        from dcomp.learning import torch_files

        return torch_files.load_file(path)
    return checkpoint.load_file(path)


def is_container(path: Path) -> bool:
    """Whether a file begins as a .dcz container.

    Raises:
        CheckpointError: it cannot be read.
    """
    return not path.name.endswith(INDEX_SUFFIX) and _start_of(path).startswith(layout.MAGIC)


def load_container(path: Path) -> Container:
    """Open a .dcz file; any other checkpoint is encoded in memory, exactly as `encode` would write it.

    Raises:
        CheckpointError, ContainerError: as `load_checkpoint`.
    """
    if is_container(path):
        return Container.open(path)
    buffer = io.BytesIO()
    writer.write(load_checkpoint(path), buffer)
    return Container(buffer.getbuffer())


def _looks_like_safetensors(start: bytes) -> bool:
    """Whether a plausible header size and a brace come first: a size may happen to spell one of the magics."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 30


def _start_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(9)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
