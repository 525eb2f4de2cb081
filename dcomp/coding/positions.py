"""Where a tensor's kept elements are <-> bytes: an index for the whole, or one for each cell (FORMAT.md, 4.1)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dcomp.coding import density, sparse_index
from dcomp.coding.density import Classes, CodedClasses
from dcomp.coding.level import Level
from dcomp.coding.plain import sampled
from dcomp.coding.sparse_index import GapCoding, GapIndex
from dcomp.coding.stream import Stream
from dcomp.coding.wire import Cursor

Shape = tuple[int, int]

WORTH_CLASSES = 1 << 9
"""Kept elements below which classes cost more than they save."""

CELL_BITS = 64
"""About what a cell takes besides the entropy of its positions."""

PROPOSALS = 2
"""Proposals of classes that are coded, of those that promise something."""

UNEVEN, SLIGHTLY_UNEVEN = 0.03, 0.005
"""Classes are tried where the densities' relative variance is above this: a hundredth may be saved, or a little."""

TRIED_IN_FULL = 1 << 15
"""Kept elements up to which an exhaustive search tries classes that promise nothing."""

SAMPLED_GAPS = 1 << 15
"""Kept elements that are looked at to choose the order."""

TURNING_GAIN = 0.97
"""Gaps have to look smaller by this factor, or the matrix is not turned."""


@dataclass(frozen=True)
class Positions:
    """Coded positions of the kept elements of a matrix.

    Attributes:
        classes: of its rows and columns; None if the whole matrix is one cell.
        cells: the index of each cell.
    """

    classes: CodedClasses | None
    cells: Sequence[GapIndex]

    @property
    def kept(self) -> int:
        """Number of kept elements."""
        return sum(cell.kept for cell in self.cells)

    @property
    def fillers(self) -> int:
        """Number of fillers."""
        return sum(cell.fillers for cell in self.cells)

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return (self.classes.nbytes if self.classes else 0) + sum(cell.nbytes for cell in self.cells)

    @property
    def streams(self) -> list[Stream]:
        """All streams, in the order in which `decode` takes their symbols."""
        gaps = [cell.gaps for cell in self.cells if cell.gaps is not None]
        return [*(self.classes.streams if self.classes else []), *gaps]

    def to_bytes(self) -> bytes:
        """The positions as FORMAT.md, section 4.1, lays them out."""
        return (self.classes.to_bytes() if self.classes else b"") + b"".join(cell.to_bytes() for cell in self.cells)

    @classmethod
    def parse(cls, cursor: Cursor, shape: Shape, *, classes: bool) -> "Positions":
        """Read the positions in a matrix of that shape.

        Raises:
            ContainerError: they break the format.
        """
        coded = CodedClasses.parse(cursor, shape) if classes else None
        left = shape[0] * shape[1]
        cells = []
        for _ in range(coded.counts[0] * coded.counts[1] if coded else 1):
            cells.append(GapIndex.parse(cursor, left))
            left -= cells[-1].kept
        return cls(coded, cells)

    def decode(self, shape: Shape, symbols: Iterator[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Decode the positions from the symbols of `streams`.

        Returns:
            the positions in the matrix, cell after cell, shape (kept,); and those of each cell in it.

        Raises:
            ContainerError: the symbols do not fit.
        """
        if self.classes is None:
            found = _decoded(self.cells[0], symbols, shape[0] * shape[1])
            return found, [found]
        classes = self.classes.decode(shape, symbols)
        sizes = classes.sizes()
        inside = [_decoded(cell, symbols, size) for cell, size in zip(self.cells, sizes, strict=True)]
        outside = [classes.outside(number, own) for number, own in enumerate(inside)]
        return np.concatenate(outside), inside


def follows(cells: Sequence[np.ndarray]) -> np.ndarray:
    """Whether the gap before each position of some cells is 0; shape (kept,)."""
    adjacent = np.empty(sum(positions.size for positions in cells), bool)
    begin = 0
    for positions in cells:
        own = adjacent[begin : begin + positions.size]
        own[:1] = positions[:1] == 0
        np.equal(positions[1:] - positions[:-1], 1, out=own[1:])
        begin += own.size
    return adjacent


def _decoded(index: GapIndex, symbols: Iterator[np.ndarray], elements: int) -> np.ndarray:
    if index.gaps is None:
        return np.zeros(0, np.int64)
    return sparse_index.decode_gaps(index, next(symbols), elements)


@dataclass(frozen=True)
class PositionCoding:
    """How positions will be coded, and about how many bits that takes.

    Attributes:
        classes: None if the whole matrix is one cell.
        order: of the kept elements, where cells change it.
        gaps: of each cell.
        plans: for each cell's gaps; None for a cell that keeps nothing.
        bits: of the gaps and their tables.
    """

    classes: Classes | None
    order: np.ndarray | None
    gaps: Sequence[np.ndarray]
    plans: Sequence[GapCoding | None]
    bits: float

    def encode(self) -> Positions:
        """Code the positions."""
        cells = [
            GapIndex(0) if plan is None else sparse_index.encode_gaps(gaps, plan)
            for gaps, plan in zip(self.gaps, self.plans, strict=True)
        ]
        return Positions(None if self.classes is None else CodedClasses.encode(self.classes), cells)

    def follows(self) -> np.ndarray:
        """Whether the gap before each kept element is 0, in the order in which positions are coded."""
        return np.concatenate([gaps == 0 for gaps in self.gaps])

    def ordered(self, values: np.ndarray) -> np.ndarray:
        """Values of the kept elements, in the order in which their positions are coded."""
        return values if self.order is None else values[self.order]


def choose_position_coding(gaps: np.ndarray, shape: Shape, level: Level) -> PositionCoding:
    """The way to code positions that promises the fewest bits.

    Args:
        gaps: of the kept elements of the matrix, row-major, shape (kept,), kept > 0.
        shape: of the matrix.
        level: how hard to try.
    """
    whole = sparse_index.choose_gap_coding(gaps)
    best = PositionCoding(None, None, [gaps], [whole], whole.bits)
    if not level.classes or gaps.size < WORTH_CLASSES or min(shape) == 1:
        return best
    positions = sparse_index.positions_of(gaps)
    try_all = level.exhaustive and gaps.size <= TRIED_IN_FULL
    if not try_all and _unevenness(positions, shape) <= (SLIGHTLY_UNEVEN if level.exhaustive else UNEVEN):
        return best
    for bits, classes in density.proposals(positions, shape, level.classes)[:PROPOSALS]:
        if bits + CELL_BITS * classes.cells < best.bits or try_all:
            made = _plan_cells(positions, classes)
            best = min(best, made, key=lambda made: made.bits)
    return best


def _plan_cells(positions: np.ndarray, classes: Classes) -> PositionCoding:
    order, cells = classes.sorted_into_cells(positions)
    gaps = [sparse_index.gaps_of(own) for own in cells]
    plans = [sparse_index.choose_gap_coding(own) if own.size else None for own in gaps]
    of_classes = 8 * len(CodedClasses.encode(classes).to_bytes())
    cells_bits = sum(CELL_BITS / 4 + (made.bits if made else 0) for made in plans)
    return PositionCoding(classes, order, gaps, plans, of_classes + cells_bits)


def _unevenness(positions: np.ndarray, shape: Shape) -> float:
    """By how much rows or columns differ in density beyond chance; columns are judged by a sample."""
    starts = np.arange(0, shape[0] * shape[1] + 1, shape[1], dtype=positions.dtype)
    in_rows = np.diff(np.searchsorted(positions, starts))
    _, column = density.divided(sampled(positions), shape[1])
    in_columns = np.bincount(column, minlength=shape[1])
    return max(density.unevenness(in_rows), density.unevenness(in_columns))


def columns_first_pays(gaps: np.ndarray, shape: Shape) -> bool:
    """Whether gaps down the columns look smaller than gaps along the rows, in a band of rows."""
    positions = sparse_index.positions_of(gaps)
    most = max(2, shape[0] * SAMPLED_GAPS // gaps.size)
    first = max(0, shape[0] - most) // 2
    band = np.array([first, min(first + most, shape[0])]) * shape[1]
    begin, end = np.searchsorted(positions, band.astype(positions.dtype))
    if end - begin < 2:
        return False
    row, column = density.divided(positions[begin:end] - positions.dtype.type(first * shape[1]), shape[1])
    down = np.sort(column.astype(np.int64) * min(most, shape[0]) + row)
    turned = sparse_index.choose_gap_coding(sparse_index.gaps_of(down))
    return turned.bits < TURNING_GAIN * sparse_index.choose_gap_coding(gaps[begin:end]).bits
