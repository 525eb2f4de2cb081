"""Checkpoints in safetensors files.

A safetensors file has an 8-byte little-endian header size, a JSON header (for each tensor: dtype, shape, byte
range; under `__metadata__`: strings) and the tensors' bytes. The safetensors library checks every file that is read.
It does not write files: it shuffles the metadata at each call and needs all tensors at once, and the same checkpoint
must give the same bytes, one tensor after the other.
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

HeaderEntry = tuple[str, list[int], list[int]]
"""Dtype, shape and data offsets of a tensor."""

HEADER_KEY = "dcomp.header"
"""Key of the metadata entry that keeps the header of a file, if another tool wrote its JSON in another way."""

MAX_HEADER_ENTRY = 1 << 24
"""Bytes of the largest header that is stored in the metadata."""


def load_file(path: Path) -> Checkpoint:
    """Open a safetensors file; a tensor is read when it is indexed, and is read-only.

    Raises:
        CheckpointError: it is no safetensors file, or has a dtype that numpy and ml_dtypes lack.
    """
    file = FileBytes(path, CheckpointError)
    text, entries, metadata = _read_header(file)
    specs, offsets = {}, {}
    for name, (dtype, shape, span) in sorted(entries.items(), key=lambda item: item[1][2]):
        if dtype not in dtypes.BY_NAME:
            raise CheckpointError(f"tensor {name!r} has dtype {dtype}, which dcomp does not read")
        specs[name] = Spec(dtypes.BY_NAME[dtype], tuple(shape))
        offsets[name] = 8 + len(text) + span[0]
    if len(text) <= MAX_HEADER_ENTRY and text != _header_text(specs, metadata):
        metadata[HEADER_KEY] = text.decode()

    def read(names: Sequence[str]) -> list[np.ndarray]:
        return [_read(file, offsets[name], specs[name], name) for name in names]

    return Checkpoint(Tensors(specs, read), metadata)


def _read_header(file: FileBytes) -> tuple[bytes, dict[str, HeaderEntry], dict[str, str]]:
    """Check a file, and read its header.

    Returns:
        the JSON; dtype, shape and data offsets of each tensor by name; and the metadata.

    Raises:
        CheckpointError: it is no safetensors file.
    """
    try:
        with safetensors.safe_open(file.path, framework="numpy"):  # checks sizes, overlaps and coverage
            pass
        text = file.read(8, int.from_bytes(file.read(0, 8), "little")).tobytes()
        return text, *_parsed(text)
    except (OSError, safetensors.SafetensorError, ValueError) as error:
        raise CheckpointError(f"{file.path} is not a readable safetensors file: {error}") from error


def _parsed(text: bytes) -> tuple[dict[str, HeaderEntry], dict[str, str]]:
    """Parse a header: dtype, shape and data offsets of each tensor by name, and the metadata.

    Raises:
        ValueError: it is no JSON, or a key occurs twice.
    """
    try:
        header = json.loads(text, object_pairs_hook=_without_repeated_keys)
        metadata = header.pop(METADATA_KEY, None) or {}
        entries = {  # the library accepts lists as well
            name: tuple(entry if isinstance(entry, list) else map(entry.__getitem__, FIELDS))
            for name, entry in header.items()
        }
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    return entries, metadata


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"its header has the key {counts.most_common(1)[0][0]!r} twice")
    return mapping


def _read(file: FileBytes, offset: int, spec: Spec, name: str) -> np.ndarray:
    data = file.read(offset, spec.nbytes)
    try:
        return data.view(spec.dtype).reshape(spec.shape)
    except ValueError as error:
        raise CheckpointError(f"tensor {name!r} has a shape that numpy does not take: {error}") from error


def save(checkpoint: Checkpoint, stream: BinaryIO, on_tensor: Callable[[int], object] = lambda nbytes: None) -> None:
    """Write a safetensors file to `stream`; the same checkpoint gives the same bytes.

    Tensors are read and written one after the other, in the checkpoint's order. An unchanged checkpoint of `load_file`
    gives the bytes of its file again, header included.

    Args:
        checkpoint: the checkpoint.
        stream: the file.
        on_tensor: called with the bytes of each tensor after it is written.

    Raises:
        CheckpointError: a safetensors file cannot hold a tensor's name or dtype.
    """
    specs = tensors.specs_of(checkpoint.tensors)
    for text in [*specs, *checkpoint.metadata, *checkpoint.metadata.values()]:
        if not tensors.is_text(text):
            raise CheckpointError(f"{text!r} is a name or metadata entry that UTF-8 cannot encode")
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
    """Return the JSON header that the metadata keep, if it describes these tensors and metadata; else a new header."""
    text = _header_text(specs, {key: value for key, value in metadata.items() if key != HEADER_KEY})
    with suppress(ValueError, LookupError, TypeError, AttributeError):  # there is none, or it is hostile
        original = metadata[HEADER_KEY].encode()
        entries, original_metadata = _parsed(original)
        original_metadata.pop(HEADER_KEY, None)
        if (entries, original_metadata) == _parsed(text):
            return original
    return text


def _header_text(specs: Mapping[str, Spec], metadata: Mapping[str, str]) -> bytes:
    """Return a JSON header as the safetensors library writes it, padded, with the tensors in order."""
    header: dict[str, object] = {METADATA_KEY: dict(metadata)} if metadata else {}
    offset = 0
    for name, spec in specs.items():
        end = offset + spec.nbytes
        header[name] = {"dtype": dtypes.NAME_OF[spec.dtype], "shape": list(spec.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % HEADER_ALIGNMENT)
