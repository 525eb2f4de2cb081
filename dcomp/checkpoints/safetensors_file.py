"""Checkpoints in safetensors files.

A safetensors file is an 8-byte little-endian header size, a JSON header (per tensor: dtype, shape, byte
range; under `__metadata__`: strings) and the tensors' bytes. The safetensors library judges every file
that is read here. Writing is done here, because the library shuffles the metadata at each call and
needs all tensors at once: the same checkpoint must give the same bytes, one tensor after the other.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors

from dcomp.checkpoints import dtypes, tensors
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.checkpoints.tensors import Spec, Tensors
from dcomp.errors import CheckpointError
from dcomp.system.file_bytes import FileBytes

HEADER_ALIGNMENT = 8
METADATA_KEY = "__metadata__"
FIELDS = ("dtype", "shape", "data_offsets")

HEADER_KEY = "dcomp.header"
"""Metadata entry that keeps the header of a safetensors file that another tool spelled in its way."""

KEPT_HEADER_BYTES = 1 << 24
"""A header of more bytes is spelled anew."""


def load_file(path: Path) -> Checkpoint:
    """Open a safetensors file; a tensor is read, and is read-only, when it is asked for.

    Raises:
        CheckpointError: not a safetensors file, or a dtype that numpy and ml_dtypes do not have.
    """
    file = FileBytes(path, CheckpointError)
    try:
        with safetensors.safe_open(path, framework="numpy"):  # checks sizes, overlaps and coverage
            pass
        data_start = 8 + int.from_bytes(file.read(0, 8), "little")
        text = file.read(8, data_start - 8).tobytes()
        entries, metadata = _parsed(text)
    except (OSError, safetensors.SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    specs, offsets = {}, {}
    for name, (dtype, shape, span) in sorted(entries.items(), key=lambda item: item[1][2]):
        if dtype not in dtypes.BY_NAME:
            raise CheckpointError(f"tensor {name!r} has dtype {dtype}, which dcomp does not read")
        specs[name] = Spec(dtypes.BY_NAME[dtype], tuple(shape))
        offsets[name] = data_start + span[0]
    if len(text) <= KEPT_HEADER_BYTES and text != _spelled(specs, metadata):
        metadata[HEADER_KEY] = text.decode()

    def read(names: Sequence[str]) -> list[np.ndarray]:
        return [_read(file, offsets[name], specs[name], name) for name in names]

    return Checkpoint(Tensors(specs, read), metadata)


def _parsed(text: bytes) -> tuple[dict[str, tuple[str, list[int], list[int]]], dict[str, str]]:
    """What a header says, however it is spelled: dtype, shape and data offsets by name, and the metadata.

    Raises:
        ValueError: no JSON, or a key that occurs twice.
    """
    try:
        header = json.loads(text, object_pairs_hook=_without_repeated_keys)
        metadata = header.pop(METADATA_KEY, None) or {}
        entries = {  # the library takes lists as well
            name: tuple(entry if isinstance(entry, list) else map(entry.__getitem__, FIELDS))
            for name, entry in header.items()
        }
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    return entries, metadata


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"its header has the key {counts.most_common(1)[0][0]!r} twice")
    return found


def _read(file: FileBytes, offset: int, spec: Spec, name: str) -> np.ndarray:
    data = file.read(offset, spec.nbytes)
    try:
        return data.view(spec.dtype).reshape(spec.shape)
    except ValueError as error:
        raise CheckpointError(f"tensor {name!r} has a shape that numpy does not take: {error}") from error


def save(checkpoint: Checkpoint, stream: BinaryIO, on_tensor: Callable[[int], object] = lambda nbytes: None) -> None:
    """Write a safetensors file to `stream`; the same checkpoint gives the same bytes.

    Tensors stand in the checkpoint's order and are read one after the other. A file that `load_file` read, and nobody
    changed, comes back byte for byte, its header as it was spelled.

    Args:
        checkpoint: what to write.
        stream: where to.
        on_tensor: told the bytes of each tensor when it is written.

    Raises:
        CheckpointError: a tensor's name or dtype is impossible in a safetensors file.
    """
    specs = tensors.specs_of(checkpoint.tensors)
    for text in [*specs, *checkpoint.metadata, *checkpoint.metadata.values()]:
        if not tensors.is_text(text):
            raise CheckpointError(f"{text!r} is a name or metadata, and no string that UTF-8 can hold")
    for name, spec in specs.items():
        if spec.dtype not in dtypes.NAME_OF:
            raise CheckpointError(f"tensor {name!r} has dtype {spec.dtype}, which safetensors does not know")
        if name == METADATA_KEY:
            raise CheckpointError(f"{METADATA_KEY!r} cannot be a tensor's name in a safetensors file")
    header = _header(specs, checkpoint.metadata)
    stream.write(len(header).to_bytes(8, "little") + header)
    for _, array in tensors.stream(checkpoint.tensors):
        stream.write(dtypes.bit_patterns(array).data)
        on_tensor(array.nbytes)


def _header(specs: Mapping[str, Spec], metadata: Mapping[str, str]) -> bytes:
    """The JSON header that the metadata keep, if it describes these tensors and metadata, else one in our spelling."""
    text = _spelled(specs, {key: value for key, value in metadata.items() if key != HEADER_KEY})
    with suppress(ValueError, LookupError, TypeError, AttributeError):  # none, or any text: containers are hostile
        kept = metadata[HEADER_KEY].encode()
        entries, kept_metadata = _parsed(kept)
        kept_metadata.pop(HEADER_KEY, None)
        if (entries, kept_metadata) == _parsed(text):
            return kept
    return text


def _spelled(specs: Mapping[str, Spec], metadata: Mapping[str, str]) -> bytes:
    """A JSON header as the safetensors library spells it, padded; the tensors follow in the order given."""
    header: dict[str, object] = {METADATA_KEY: dict(metadata)} if metadata else {}
    offset = 0
    for name, spec in specs.items():
        end = offset + spec.nbytes
        header[name] = {"dtype": dtypes.NAME_OF[spec.dtype], "shape": list(spec.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % HEADER_ALIGNMENT)
