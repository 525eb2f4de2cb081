"""The four functions of the Python interface, named as in safetensors: dictionaries of arrays <-> .dcz."""

import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dcomp.checkpoint import Checkpoint
from dcomp.container import writer
from dcomp.container.reader import DEFAULT_MAX_MEMORY, Container
from dcomp.files import replacing


def save(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """Encode arrays as the bytes of a .dcz file.

    Raises:
        CheckpointError: a dtype that safetensors does not know.
    """
    buffer = io.BytesIO()
    writer.write(Checkpoint(dict(tensors), dict(metadata or {})), buffer)
    return buffer.getvalue()


def save_file(
    tensors: Mapping[str, np.ndarray], filename: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Encode arrays into a .dcz file, replacing one that exists only once it is complete.

    Raises:
        CheckpointError: a dtype that safetensors does not know.
        OutputError: the file cannot be written.
    """
    with replacing(Path(filename), force=True) as file:
        writer.write(Checkpoint(dict(tensors), dict(metadata or {})), file)


def load(data: bytes, *, max_memory: int = DEFAULT_MAX_MEMORY) -> dict[str, np.ndarray]:
    """Decode the bytes of a .dcz file; the arrays equal, bit for bit, those saved.

    Raises:
        LimitError: decoding would take more than `max_memory` bytes.
        ContainerError: not a .dcz file, or a damaged one.
    """
    return Container(data).decode(max_memory=max_memory)


def load_file(filename: str | os.PathLike[str], *, max_memory: int = DEFAULT_MAX_MEMORY) -> dict[str, np.ndarray]:
    """Decode a .dcz file; raises as `load`."""
    return Container.open(Path(filename)).decode(max_memory=max_memory)
