"""What a container holds, from its directory and the first byte of each record."""

from dataclasses import dataclass

from dcomp import dtypes
from dcomp.coding import tensor
from dcomp.container import layout
from dcomp.container.reader import Container

FORM_NAMES = ("raw", "zstd", "shared", "planes")


@dataclass(frozen=True)
class Line:
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
class Outline:
    """A container: its version, its dense bytes, its own, their ratio, those of its header, metadata and tensors."""

    version: int
    dense_bytes: int
    file_bytes: int
    ratio: float
    header_bytes: int
    metadata: dict[str, str]
    tensors: list[Line]


def of(container: Container) -> Outline:
    """List a container's tensors; their records are neither checked nor decoded."""
    lines = [
        Line(
            entry.name,
            dtypes.NAME_OF[entry.spec.dtype],
            entry.spec.shape,
            f"tied to {entry.tied_to}" if entry.tied_to is not None else encoding(container.flags(entry.name)),
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
    return Outline(layout.VERSION, dense, own, dense / own, directory.nbytes, directory.metadata, lines)


def encoding(flags: int) -> str:
    """A record's flags in words (FORMAT.md, section 4)."""
    words = []
    if flags & tensor.HAS_POSITIONS:
        words.append("positions in classes" if flags & tensor.HAS_CLASSES else "positions")
    words.append(FORM_NAMES[flags >> 1 & 3])
    if flags & tensor.COLUMNS_FIRST:
        words.append("columns first")
    return ", ".join(words)
