"""The content of a file: the directory of a container and the encodings of its records, or a checkpoint's tensors."""

from dataclasses import dataclass

from dcomp.checkpoints import dtypes, tensors
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.coding.record import COLUMNS_FIRST, HAS_CLASSES, HAS_POSITIONS
from dcomp.coding.value_forms import form_name
from dcomp.container import layout
from dcomp.container.reader import Container


@dataclass(frozen=True)
class RecordLine:
    """A tensor of a container: its dense bytes, the bytes of its record, their ratio, and how the record is encoded."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    encoding: str
    dense_bytes: int
    bytes: int
    ratio: float | None
    offset: int
    crc: str


@dataclass(frozen=True)
class ContainerListing:
    """A container: its version, its sizes in bytes, its metadata and its tensors."""

    version: int
    dense_bytes: int
    file_bytes: int
    ratio: float
    header_bytes: int
    metadata: dict[str, str]
    tensors: list[RecordLine]


def list_container(container: Container) -> ContainerListing:
    """List the tensors of a container; their records are neither checked nor decoded."""
    lines = [_record_line(container, entry) for entry in container.directory.entries]
    directory = container.directory
    dense_bytes, file_bytes = sum(line.dense_bytes for line in lines), container.nbytes
    return ContainerListing(
        version=layout.VERSION,
        dense_bytes=dense_bytes,
        file_bytes=file_bytes,
        ratio=dense_bytes / file_bytes,
        header_bytes=directory.nbytes,
        metadata=directory.metadata,
        tensors=lines,
    )


def _record_line(container: Container, entry: layout.Entry) -> RecordLine:
    is_tied = entry.tied_to is not None
    return RecordLine(
        name=entry.name,
        dtype=dtypes.NAME_OF[entry.spec.dtype],
        shape=entry.spec.shape,
        encoding=f"tied to {entry.tied_to}" if is_tied else describe_encoding(container.flags(entry.name)),
        dense_bytes=entry.spec.nbytes,
        bytes=entry.size,
        ratio=entry.spec.nbytes / entry.size if entry.size else None,
        offset=entry.offset,
        crc="" if is_tied else f"{entry.checksum:08x}",
    )


def describe_encoding(flags: int) -> str:
    """Return the flags of a record in words (FORMAT.md, section 4)."""
    words = []
    if flags & HAS_POSITIONS:
        words.append("positions in classes" if flags & HAS_CLASSES else "positions")
    words.append(form_name(flags))
    if flags & COLUMNS_FIRST:
        words.append("columns first")
    return ", ".join(words)


@dataclass(frozen=True)
class TensorLine:
    """A tensor of an uncompressed checkpoint: its size, and how many of its elements are not zero."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    elements: int
    bytes: int
    kept: int
    kept_percent: float


@dataclass(frozen=True)
class CheckpointListing:
    """An uncompressed checkpoint: the sums over its tensors, its metadata, and its tensors."""

    elements: int
    bytes: int
    kept: int
    kept_percent: float
    metadata: dict[str, str]
    tensors: list[TensorLine]


def list_checkpoint(checkpoint: Checkpoint) -> CheckpointListing:
    """List the tensors of a checkpoint; each is read once, to count the elements that are not zero."""
    lines = []
    for name, array in tensors.stream(checkpoint.tensors):
        kept = dtypes.count_not_zero(array)
        dtype = dtypes.NAME_OF.get(array.dtype, array.dtype.name)
        lines.append(TensorLine(name, dtype, array.shape, array.size, array.nbytes, kept, _percent(kept, array.size)))
    elements, kept = sum(line.elements for line in lines), sum(line.kept for line in lines)
    nbytes = sum(line.bytes for line in lines)
    return CheckpointListing(elements, nbytes, kept, _percent(kept, elements), checkpoint.metadata, lines)


def _percent(kept: int, elements: int) -> float:
    return 100 * kept / elements if elements else 0.0
