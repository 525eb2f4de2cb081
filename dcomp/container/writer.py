"""Checkpoint -> .dcz file."""

from typing import BinaryIO
from zlib import crc32

from dcomp import dtypes
from dcomp.checkpoint import Checkpoint
from dcomp.coding import tensor
from dcomp.container import layout
from dcomp.errors import CheckpointError


def write(checkpoint: Checkpoint, stream: BinaryIO) -> None:
    """Encode a checkpoint; the same checkpoint gives the same bytes.

    Raises:
        CheckpointError: names, metadata, dtypes or shapes that a container cannot hold.
    """
    for text in [*checkpoint.tensors, *checkpoint.metadata, *checkpoint.metadata.values()]:
        if not isinstance(text, str) or text != text.encode(errors="replace").decode():
            raise CheckpointError(f"{text!r} is a name or metadata, and no string that UTF-8 can hold")
    entries, records = [], []
    for name, array in checkpoint.tensors.items():
        if array.dtype not in dtypes.NAME_OF:
            raise CheckpointError(f"tensor {name!r} has dtype {array.dtype}, which safetensors does not know")
        if problem := layout.shape_problem(array.shape):
            raise CheckpointError(f"tensor {name!r} {problem}")
        record = tensor.encode(array).record
        entries.append((name, array.dtype, array.shape, len(record), crc32(record)))
        records.append(record)
    stream.write(layout.write_header(checkpoint.metadata, entries))
    for record in records:
        stream.write(record)
