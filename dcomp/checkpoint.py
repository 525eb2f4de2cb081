"""Checkpoints: named arrays and metadata, in safetensors files.

A safetensors file is an 8-byte little-endian header size, a JSON header (per tensor: dtype, shape, byte
range; under `__metadata__`: strings) and the tensors' bytes. The safetensors library judges every file
that is read here. Writing is done here, because the library shuffles the metadata at each call and
needs all tensors at once: the same checkpoint must give the same bytes, one tensor after the other.
"""

import json
import mmap
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import safetensors

from dcomp import dtypes, tensors
from dcomp.errors import CheckpointError
from dcomp.tensors import Spec, Tensors

HEADER_ALIGNMENT = 8
METADATA_KEY = "__metadata__"

ARCHITECTURE_KEY = "dcomp.architecture"
"""Metadata entry that names the network a checkpoint belongs to."""

MAPPED = 1 << 20
"""Tensors from so many bytes on are mapped into memory; smaller ones are read, since a process may map only so many."""


@dataclass
class Checkpoint:
    """Named tensors and string metadata; both keep the order of their file."""

    tensors: Mapping[str, np.ndarray]
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of the dense tensors: the numerator of every compression ratio."""
        return sum(spec.nbytes for spec in tensors.specs_of(self.tensors).values())

    def replaced(self, changed: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> "Checkpoint":
        """A copy with some tensors and metadata entries replaced; the rest is shared, not copied."""
        return Checkpoint({**self.tensors, **changed}, {**self.metadata, **(metadata or {})})


def load_file(path: Path) -> Checkpoint:
    """Open a safetensors file; a tensor is read, and is read-only, when it is asked for.

    Raises:
        CheckpointError: not a safetensors file, or a dtype that numpy and ml_dtypes do not have.
    """
    try:
        with safetensors.safe_open(path, framework="numpy"):  # checks sizes, overlaps and coverage
            pass
        file = path.open("rb")
        data_start = 8 + int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(data_start - 8))
    except (OSError, safetensors.SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    metadata = header.pop(METADATA_KEY, None) or {}
    entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    specs, offsets = {}, {}
    for name, entry in entries:
        if entry["dtype"] not in dtypes.BY_NAME:
            raise CheckpointError(f"tensor {name!r} has dtype {entry['dtype']}, which dcomp does not read")
        specs[name] = Spec(dtypes.BY_NAME[entry["dtype"]], tuple(entry["shape"]))
        offsets[name] = data_start + entry["data_offsets"][0]

    def read(names: Sequence[str]) -> list[np.ndarray]:
        return [_read(file, offsets[name], specs[name], name) for name in names]

    return Checkpoint(Tensors(specs, read), metadata)


def _read(file: BinaryIO, offset: int, spec: Spec, name: str) -> np.ndarray:
    data: bytes | memoryview
    if spec.nbytes < MAPPED:
        data = os.pread(file.fileno(), spec.nbytes, offset)
    else:
        page = offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(file.fileno(), offset - page + spec.nbytes, access=mmap.ACCESS_READ, offset=page)
        data = memoryview(mapped)[offset - page :]
    try:
        return np.frombuffer(data, spec.dtype).reshape(spec.shape)
    except ValueError as error:
        raise CheckpointError(f"tensor {name!r} has a shape that numpy does not take: {error}") from error


def save(checkpoint: Checkpoint, stream: BinaryIO, on_tensor: Callable[[int], object] = lambda nbytes: None) -> None:
    """Write a safetensors file to `stream`; the same checkpoint gives the same bytes.

    Tensors stand in the checkpoint's order, so a file that the safetensors library wrote comes back
    byte for byte. They are read one after the other.

    Args:
        checkpoint: what to write.
        stream: where to.
        on_tensor: told the bytes of each tensor when it is written.

    Raises:
        CheckpointError: a tensor's name or dtype is impossible in a safetensors file.
    """
    specs = tensors.specs_of(checkpoint.tensors)
    for name, spec in specs.items():
        if spec.dtype not in dtypes.NAME_OF:
            raise CheckpointError(f"tensor {name!r} has dtype {spec.dtype}, which safetensors does not know")
        if name == METADATA_KEY:
            raise CheckpointError(f"{METADATA_KEY!r} cannot be a tensor's name in a safetensors file")
    stream.write(header_bytes(specs, checkpoint.metadata))
    for _, array in tensors.stream(checkpoint.tensors):
        stream.write(dtypes.bit_patterns(array).data)
        on_tensor(array.nbytes)


def header_bytes(specs: Mapping[str, Spec], metadata: Mapping[str, str]) -> bytes:
    """The size field and JSON header of a safetensors file whose tensors follow in the order given.

    Raises:
        CheckpointError: a name or metadata that UTF-8 cannot hold.
    """
    header: dict[str, object] = {METADATA_KEY: dict(metadata)} if metadata else {}
    offset = 0
    for name, spec in specs.items():
        end = offset + spec.nbytes
        header[name] = {"dtype": dtypes.NAME_OF[spec.dtype], "shape": list(spec.shape), "data_offsets": [offset, end]}
        offset = end
    try:
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        character = error.object[error.start]
        raise CheckpointError(f"{character!r} is in a name or in metadata, and UTF-8 cannot hold it") from error
    text += b" " * (-len(text) % HEADER_ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
