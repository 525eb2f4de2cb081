"""Checkpoints: named arrays and metadata, in safetensors files.

A safetensors file is an 8-byte little-endian header size, a JSON header (per tensor: dtype, shape, byte
range; under `__metadata__`: strings) and the tensors' bytes. The safetensors library judges every file
that is read here. Writing is done here, because the library shuffles the metadata at each call and
needs all tensors at once: the same checkpoint must give the same bytes, one tensor after the other.
"""

import json
import mmap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import safetensors

from dcomp import dtypes
from dcomp.errors import CheckpointError

HEADER_ALIGNMENT = 8
METADATA_KEY = "__metadata__"


@dataclass
class Checkpoint:
    """Named tensors and string metadata; both keep the order of their file."""

    tensors: dict[str, np.ndarray]
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of the dense tensors: the numerator of every compression ratio."""
        return sum(array.nbytes for array in self.tensors.values())

    def replaced(self, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> "Checkpoint":
        """A copy with some tensors and metadata entries replaced; the rest is shared, not copied."""
        return Checkpoint({**self.tensors, **tensors}, {**self.metadata, **(metadata or {})})


def load_file(path: Path) -> Checkpoint:
    """Read a safetensors file; the arrays are read-only views of the memory-mapped file.

    Raises:
        CheckpointError: not a safetensors file, or a dtype that numpy and ml_dtypes do not have.
    """
    try:
        with safetensors.safe_open(path, framework="numpy"):  # checks sizes, overlaps and coverage
            pass
        with path.open("rb") as file:
            mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, safetensors.SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    data_start = 8 + int.from_bytes(mapped[:8], "little")
    header = json.loads(bytes(mapped[8:data_start]))
    metadata = header.pop(METADATA_KEY, None) or {}
    entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    return Checkpoint({name: _view(mapped, data_start, name, entry) for name, entry in entries}, metadata)


def _view(mapped: memoryview, data_start: int, name: str, entry: dict) -> np.ndarray:  # type: ignore[type-arg]  # JSON
    if entry["dtype"] not in dtypes.BY_NAME:
        raise CheckpointError(f"tensor {name!r} has dtype {entry['dtype']}, which dcomp does not read")
    begin, end = entry["data_offsets"]
    data = np.frombuffer(mapped[data_start + begin : data_start + end], dtypes.BY_NAME[entry["dtype"]])
    try:
        return data.reshape(entry["shape"])
    except ValueError as error:
        raise CheckpointError(f"tensor {name!r} has a shape that numpy does not take: {error}") from error


def save(checkpoint: Checkpoint, stream: BinaryIO) -> None:
    """Write a safetensors file to `stream`; the same checkpoint gives the same bytes.

    Tensors stand in the checkpoint's order, so a file that the safetensors library wrote comes back
    byte for byte.

    Raises:
        CheckpointError: a tensor's name or dtype is impossible in a safetensors file.
    """
    layout = []
    for name, array in checkpoint.tensors.items():
        if array.dtype not in dtypes.NAME_OF:
            raise CheckpointError(f"tensor {name!r} has dtype {array.dtype}, which safetensors does not know")
        if name == METADATA_KEY:
            raise CheckpointError(f"{METADATA_KEY!r} cannot be a tensor's name in a safetensors file")
        layout.append((name, array.dtype, array.shape))
    stream.write(header_bytes(layout, checkpoint.metadata))
    for array in checkpoint.tensors.values():
        stream.write(dtypes.bit_patterns(array).data)


def header_bytes(layout: Iterable[tuple[str, np.dtype, tuple[int, ...]]], metadata: Mapping[str, str]) -> bytes:
    """The size field and JSON header of a safetensors file whose tensors follow in the order given."""
    header: dict[str, object] = {METADATA_KEY: dict(metadata)} if metadata else {}
    offset = 0
    for name, dtype, shape in layout:
        end = offset + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        header[name] = {"dtype": dtypes.NAME_OF[dtype], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % HEADER_ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
