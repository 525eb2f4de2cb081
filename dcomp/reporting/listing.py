"""What a file holds: of a container, its directory and the first byte of each record; of a checkpoint, its tensors."""

from dataclasses import dataclass

from dcomp.checkpoints import dtypes, tensors
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.coding.record import COLUMNS_FIRST, HAS_CLASSES, HAS_POSITIONS
from dcomp.container import layout
from dcomp.container.reader import Container

FORM_NAMES = ("raw", "zstd", "shared", "planes")


@dataclass(frozen=True)
class RecordLine:
    """A tensor: its dense bytes, those of its record, the first over the second, and how the record is encoded."""

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
    """A container: its version, its dense bytes, its own, their ratio, those of its header, metadata and tensors."""

    version: int
    dense_bytes: int
    file_bytes: int
    ratio: float
    header_bytes: int
    metadata: dict[str, str]
    tensors: list[RecordLine]


def list_container(container: Container) -> ContainerListing:
    """List a container's tensors; their records are neither checked nor decoded."""
    lines = [
        RecordLine(
            entry.name,
            dtypes.NAME_OF[entry.spec.dtype],
            entry.spec.shape,
            f"tied to {entry.tied_to}" if entry.tied_to is not None else describe_encoding(container.flags(entry.name)),
            entry.spec.nbytes,
            entry.size,
            entry.spec.nbytes / entry.size if entry.size else None,
            entry.offset,
            "" if entry.tied_to is not None else f"{entry.checksum:08x}",
        )
        for entry in container.directory.entries
    ]
    directory = container.directory
    dense, own = sum(line.dense_bytes for line in lines), container.nbytes
    return ContainerListing(layout.VERSION, dense, own, dense / own, directory.nbytes, directory.metadata, lines)


def describe_encoding(flags: int) -> str:
    """A record's flags in words (FORMAT.md, section 4)."""
    words = []
    if flags & HAS_POSITIONS:
        words.append("positions in classes" if flags & HAS_CLASSES else "positions")
    words.append(FORM_NAMES[flags >> 1 & 3])
    if flags & COLUMNS_FIRST:
        words.append("columns first")
    return ", ".join(words)


@dataclass(frozen=True)
class TensorLine:
    """A tensor of a checkpoint that is not compressed: its size, and how many of its elements are not zero."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    elements: int
    bytes: int
    kept: int
    kept_percent: float


@dataclass(frozen=True)
class CheckpointListing:
    """A checkpoint that is not compressed: the sums over its tensors, its metadata, and its tensors."""

    elements: int
    bytes: int
    kept: int
    kept_percent: float
    metadata: dict[str, str]
    tensors: list[TensorLine]


def list_checkpoint(checkpoint: Checkpoint) -> CheckpointListing:
    """List a checkpoint's tensors; each is read once, to count what is not zero."""
    lines = []
    for name, array in tensors.stream(checkpoint.tensors):
        kept = dtypes.count_not_zero(array)
        dtype = dtypes.NAME_OF.get(array.dtype, array.dtype.name)
        lines.append(TensorLine(name, dtype, array.shape, array.size, array.nbytes, kept, _percent(kept, array.size)))
    elements, kept = sum(line.elements for line in lines), sum(line.kept for line in lines)
    nbytes = sum(line.bytes for line in lines)
    return CheckpointListing(elements, nbytes, kept, _percent(kept, elements), checkpoint.metadata, lines)


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0
