"""The container's header and directory <-> bytes (FORMAT.md, sections 2, 3 and 7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from zlib import crc32

import zstandard

from dcomp.checkpoints import dtypes
from dcomp.checkpoints.tensors import Spec
from dcomp.coding.limits import MAX_DIRECTORY_BYTES, MAX_ELEMENTS, MAX_METADATA, MAX_RANK, MAX_TENSORS
from dcomp.coding.wire import MAX_VARINT, MAX_VARINT_BYTES, Cursor, string, varint
from dcomp.errors import CheckpointError, ChecksumError, ContainerError, LimitError

MAGIC = b"\x89DCZ"
VERSION = 2
DIRECTORY_COMPRESSED = 1
CHECKSUM_BYTES = 4
ZSTD_LEVEL = 19

DIRECTORY_COPIES, METADATA_BYTES, TENSOR_ENTRY_BYTES = 12, 400, 1200
"""Estimated memory of names and metadata: copies of their bytes, bytes for each key, and for each tensor."""

SMALL_DIRECTORY = 1 << 20
"""Bytes of memory that a directory may always take."""

DTYPE_NUMBERS = {name: number for number, name in enumerate(dtypes.BY_NAME)}
DTYPE_NAMES = list(dtypes.BY_NAME)


@dataclass(frozen=True)
class Entry:
    """What the directory says about one tensor.

    Attributes:
        name: of the tensor.
        spec: its dtype and shape.
        size: bytes of its record; 0 if it is tied.
        checksum: of its record.
        offset: of its record from the start of the file.
        tied_to: name of an entry before this one that has the same bytes, and a record; None if this one has a record.
    """

    name: str
    spec: Spec
    size: int
    checksum: int = 0
    offset: int = 0
    tied_to: str | None = None


@dataclass(frozen=True)
class Directory:
    """Everything before the records.

    Attributes:
        metadata: the checkpoint's.
        entries: one for each tensor, in order.
        nbytes: bytes of the header, the directory and its checksum; the first record starts there.
        memory: about how many bytes of memory it takes.
    """

    metadata: dict[str, str]
    entries: list[Entry]
    nbytes: int
    memory: int


def write_header(metadata: Mapping[str, str], entries: Sequence[Entry]) -> bytes:
    """Return everything before the records; the offsets of the entries are not used.

    Raises:
        CheckpointError: names and metadata take more bytes than a container can hold.
    """
    directory = _directory_bytes(metadata, entries)
    if len(directory) > MAX_DIRECTORY_BYTES:
        raise CheckpointError(
            f"names and metadata take {len(directory):,} bytes, more than the {MAX_DIRECTORY_BYTES:,} that a container "
            "can hold"
        )
    compressed = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(directory)
    flags = DIRECTORY_COMPRESSED if len(compressed) < len(directory) else 0
    stored = compressed if flags else directory
    header = MAGIC + bytes([VERSION, flags]) + varint(len(stored)) + stored
    return header + crc32(header).to_bytes(CHECKSUM_BYTES, "little")


def _directory_bytes(metadata: Mapping[str, str], entries: Sequence[Entry]) -> bytes:
    """Return the directory as FORMAT.md, section 3, specifies it."""
    parts = [varint(len(metadata))]
    parts += [string(text) for pair in metadata.items() for text in pair]
    parts.append(varint(len(entries)))
    places = {entry.name: place for place, entry in enumerate(entries)}
    for entry in entries:
        number, shape = DTYPE_NUMBERS[dtypes.NAME_OF[entry.spec.dtype]], entry.spec.shape
        parts += [string(entry.name), bytes([number, len(shape)]), *map(varint, shape), varint(entry.size)]
        if entry.tied_to is None:
            parts.append(entry.checksum.to_bytes(CHECKSUM_BYTES, "little"))
        else:
            parts.append(varint(places[entry.tied_to]))
    return b"".join(parts)


LONGEST_START = len(MAGIC) + 2 + MAX_VARINT_BYTES
"""Bytes that the fields before the directory take at most."""


def header_bytes(start: memoryview) -> int:
    """Return the number of bytes before the records, from the start of a container; else the length of that start."""
    cursor = Cursor(start, "the header")
    try:
        cursor.take(len(MAGIC) + 2)
        return cursor.varint(MAX_DIRECTORY_BYTES, "directory size") + cursor.offset + CHECKSUM_BYTES
    except ContainerError:
        return len(start)


def read_header(data: memoryview, file_bytes: int, max_memory: int) -> Directory:
    """Read everything before the records and check it against the length of the file.

    Args:
        data: the file, or as many bytes of its start as `header_bytes` says.
        file_bytes: the length of the file.
        max_memory: bytes that reading may take.

    Raises:
        LimitError: it would take more than `max_memory` bytes.
        ContainerError: the header or the directory breaks the format.
        ChecksumError: it is damaged.
    """
    max_memory = max(max_memory, SMALL_DIRECTORY)
    stored, is_compressed, offset = _read_stored_directory(data)
    cursor = Cursor(_decompressed(stored, max_memory) if is_compressed else stored, "the directory")
    memory = DIRECTORY_COPIES * cursor.remaining
    metadata = _read_metadata(cursor, max_memory - memory)
    memory += METADATA_BYTES * len(metadata)
    entries = _read_entries(cursor, offset, max_memory - memory)
    memory += TENSOR_ENTRY_BYTES * len(entries)
    cursor.finish()
    _check_length(offset + sum(entry.size for entry in entries), file_bytes)
    return Directory(metadata, entries, offset, memory)


def _read_stored_directory(data: memoryview) -> tuple[memoryview, bool, int]:
    """Read the header.

    Returns:
        the bytes of the directory in the file; whether they are compressed; the offset of the first record.

    Raises:
        ContainerError: it is no container, or has another version.
        ChecksumError: it is damaged.
    """
    cursor = Cursor(data, "the header")
    if bytes(data[: len(MAGIC)]) != MAGIC:
        raise ContainerError("not a dcz container")
    cursor.take(len(MAGIC))
    if (version := cursor.byte()) != VERSION:
        raise ContainerError(f"the container has version {version}; this dcomp reads version {VERSION}")
    flags = cursor.byte()
    stored = cursor.take(cursor.varint(MAX_DIRECTORY_BYTES, "directory size"))
    if crc32(data[: cursor.offset]) != cursor.u32():
        raise ChecksumError("the directory's checksum does not match: the file is damaged")
    if flags & ~DIRECTORY_COMPRESSED:
        raise ContainerError(f"reserved bits are set in the header's flags {flags:#04x}")
    return stored, bool(flags), cursor.offset


def _check_length(expected: int, file_bytes: int) -> None:
    """Raise ContainerError unless the file has the length that its directory says."""
    if expected != file_bytes:
        # "The last record must end where the file ends."
        problem = "it is cut short" if expected > file_bytes else "something was added to it"
        raise ContainerError(f"the container should have {expected} bytes and has {file_bytes}: {problem}")


def _decompressed(stored: memoryview, max_memory: int) -> bytes:
    try:
        size = zstandard.frame_content_size(stored)
        if not 0 <= size <= MAX_DIRECTORY_BYTES:
            raise ContainerError("the directory is a Zstandard frame without a content size, or too large")
        _check_memory(DIRECTORY_COPIES * size, max_memory)
        return zstandard.ZstdDecompressor().decompress(stored, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ContainerError(f"the directory is no Zstandard frame: {error}") from error


def _check_memory(needed: int, available: int) -> None:
    if needed > available:
        raise LimitError(
            "reading the container's directory takes more than the limit of memory; max_memory (--max-memory) raises it"
        )


def _read_metadata(cursor: Cursor, max_memory: int) -> dict[str, str]:
    metadata: dict[str, str] = {}
    count = cursor.varint(min(MAX_METADATA, cursor.remaining), "metadata count")
    _check_memory(METADATA_BYTES * count, max_memory)
    for _ in range(count):
        key = cursor.string("a metadata key")
        if key in metadata:
            raise ContainerError(f"metadata key {key!r} occurs twice")
        metadata[key] = cursor.string(f"metadata {key!r}")
    return metadata


def shape_problem(shape: Sequence[int]) -> str | None:
    """Return which limit of the format a shape exceeds, or None; the product leaves sizes of 0 out."""
    if len(shape) > MAX_RANK:
        return f"has {len(shape)} dimensions, more than {MAX_RANK}"
    if prod(size or 1 for size in shape) > MAX_ELEMENTS:
        return f"has the shape {tuple(shape)}, more than {MAX_ELEMENTS} elements"
    return None


def _read_entries(cursor: Cursor, offset: int, max_memory: int) -> list[Entry]:
    """Read the entries; their records follow each other from `offset` on."""
    entries: list[Entry] = []
    names: set[str] = set()
    count = cursor.varint(min(MAX_TENSORS, cursor.remaining), "tensor count")
    _check_memory(TENSOR_ENTRY_BYTES * count, max_memory)
    for _ in range(count):
        name = cursor.string("a tensor's name")
        if name in names:
            raise ContainerError(f"tensor {name!r} occurs twice")
        names.add(name)
        spec = _read_spec(cursor, name)
        size = cursor.varint(MAX_VARINT, f"record size of {name!r}")
        entries.append(Entry(name, spec, size, cursor.u32(), offset) if size else _tied(name, spec, cursor, entries))
        offset += size
    return entries


def _read_spec(cursor: Cursor, name: str) -> Spec:
    """Read the dtype and the shape of a tensor."""
    number, rank = cursor.byte(), cursor.byte()
    if number >= len(DTYPE_NAMES):
        raise ContainerError(f"tensor {name!r} has the unknown dtype number {number}")
    dimension = f"a dimension of {name!r}"
    shape = tuple(cursor.varint(MAX_ELEMENTS, dimension) for _ in range(rank))
    if problem := shape_problem(shape):
        raise ContainerError(f"tensor {name!r} {problem}")
    return Spec(dtypes.BY_NAME[DTYPE_NAMES[number]], shape)


def _tied(name: str, spec: Spec, cursor: Cursor, before: Sequence[Entry]) -> Entry:
    """Read the end of an entry that is tied to an earlier one, and has no record."""
    place = cursor.varint(MAX_VARINT, f"the tensor that {name!r} is tied to")
    # "must stand before this one, must have a record, and must be of a tensor of as many bytes"
    if place >= len(before) or not before[place].size:
        raise ContainerError(f"tensor {name!r} is tied to entry {place}, which is none before it with a record")
    if before[place].spec.nbytes != spec.nbytes:
        raise ContainerError(f"tensor {name!r} is tied to {before[place].name!r}, which has another number of bytes")
    return Entry(name, spec, 0, tied_to=before[place].name)
