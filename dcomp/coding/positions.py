"""Positions of a tensor's kept elements <-> bytes: one index, or one for each cell (FORMAT.md, section 4.1)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dcomp.coding import density, sparse_index, tuning
from dcomp.coding.density import Classes, CodedClasses
from dcomp.coding.level import Level
from dcomp.coding.sample import sampled
from dcomp.coding.sparse_index import GapCoding, GapIndex
from dcomp.coding.stream import Stream
from dcomp.coding.wire import Cursor

Shape = tuple[int, int]


@dataclass(frozen=True)
class Positions:
    """Coded positions of the kept elements of a matrix.

    Attributes:
        classes: of its rows and columns; None if the matrix is one cell.
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
        """Return the positions as FORMAT.md, section 4.1, specifies them."""
        return (self.classes.to_bytes() if self.classes else b"") + b"".join(cell.to_bytes() for cell in self.cells)

    @classmethod
    def parse(cls, cursor: Cursor, shape: Shape, *, classes: bool) -> "Positions":
        """Read the positions in a matrix of that shape.

        Raises:
            ContainerError: they break the format.
        """
        coded = CodedClasses.parse(cursor, shape) if classes else None
        remaining = shape[0] * shape[1]
        cells = []
        for _ in range(coded.counts[0] * coded.counts[1] if coded else 1):
            cells.append(GapIndex.parse(cursor, remaining))
            remaining -= cells[-1].kept
        return cls(coded, cells)

    def decode(self, shape: Shape, symbols: Iterator[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Decode the positions from the symbols of `streams`.

        Returns:
            the positions in the matrix, cell after cell, shape (kept,); and for each cell the positions in the cell.

        Raises:
            ContainerError: the symbols do not fit.
        """
        if self.classes is None:
            positions = _decoded(self.cells[0], symbols, shape[0] * shape[1])
            return positions, [positions]
        classes = self.classes.decode(shape, symbols)
        sizes = classes.sizes()
        inside = [_decoded(cell, symbols, size) for cell, size in zip(self.cells, sizes, strict=True)]
        outside = [classes.matrix_positions(number, positions) for number, positions in enumerate(inside)]
        return np.concatenate(outside), inside


def follows(cells: Sequence[np.ndarray]) -> np.ndarray:
    """Return whether the gap before each position of some cells is 0; shape (kept,)."""
    adjacent = np.empty(sum(positions.size for positions in cells), bool)
    begin = 0
    for positions in cells:
        of_cell = adjacent[begin : begin + positions.size]
        of_cell[:1] = positions[:1] == 0
        np.equal(positions[1:] - positions[:-1], 1, out=of_cell[1:])
        begin += of_cell.size
    return adjacent


def _decoded(index: GapIndex, symbols: Iterator[np.ndarray], elements: int) -> np.ndarray:
    if index.gaps is None:
        return np.zeros(0, np.int64)
    return sparse_index.decode_gaps(index, next(symbols), elements)


@dataclass(frozen=True)
class PositionCoding:
    """A way to code positions, and about how many bits that takes.

    Attributes:
        classes: of rows and columns; None if the matrix is one cell.
        order: of the kept elements, where cells change it, shape (kept,).
        gaps: of each cell.
        gap_codings: of each cell's gaps; None for a cell that keeps nothing.
        bits: of the gaps and their tables.
    """

    classes: Classes | None
    order: np.ndarray | None
    gaps: Sequence[np.ndarray]
    gap_codings: Sequence[GapCoding | None]
    bits: float

    def encode(self) -> Positions:
        """Code the positions."""
        cells = [
            GapIndex(0) if coding is None else sparse_index.encode_gaps(gaps, coding)
            for gaps, coding in zip(self.gaps, self.gap_codings, strict=True)
        ]
        return Positions(None if self.classes is None else CodedClasses.encode(self.classes), cells)

    def follows(self) -> np.ndarray:
        """Return whether the gap before each kept element is 0, in the order in which positions are coded."""
        return np.concatenate([gaps == 0 for gaps in self.gaps])

    def ordered(self, values: np.ndarray) -> np.ndarray:
        """Return values of the kept elements in the order in which their positions are coded."""
        return values if self.order is None else values[self.order]


def choose_position_coding(gaps: np.ndarray, shape: Shape, level: Level) -> PositionCoding:
    """Choose the way to code positions that takes the fewest bits by estimate.

    Args:
        gaps: of the kept elements of the matrix, row-major, shape (kept,), kept > 0.
        shape: of the matrix.
        level: how hard to try.
    """
    gap_coding = sparse_index.choose_gap_coding(gaps)
    best = PositionCoding(None, None, [gaps], [gap_coding], gap_coding.bits)
    if not level.classes or gaps.size < tuning.MIN_CLASSIFIED or min(shape) == 1:
        return best
    positions = sparse_index.positions_of(gaps)
    try_anyway = level.exhaustive and gaps.size <= tuning.MAX_CLASSES_ANYWAY
    least = tuning.SLIGHT_UNEVENNESS if level.exhaustive else tuning.UNEVENNESS
    if not try_anyway and _unevenness(positions, shape) <= least:
        return best
    for bits, classes in density.propose_classes(positions, shape, level.classes)[: tuning.CLASS_PROPOSALS]:
        if bits + tuning.CELL_BITS * classes.cells < best.bits or try_anyway:
            best = min(best, _code_cells(positions, classes), key=lambda coding: coding.bits)
    return best


def _code_cells(positions: np.ndarray, classes: Classes) -> PositionCoding:
    order, cells = classes.sorted_into_cells(positions)
    gaps = [sparse_index.gaps_of(cell) for cell in cells]
    codings = [sparse_index.choose_gap_coding(of_cell) if of_cell.size else None for of_cell in gaps]
    class_bits = 8 * len(CodedClasses.encode(classes).to_bytes())
    cell_bits = sum(tuning.CELL_BITS / 4 + (coding.bits if coding else 0) for coding in codings)
    return PositionCoding(classes, order, gaps, codings, class_bits + cell_bits)


def _unevenness(positions: np.ndarray, shape: Shape) -> float:
    """Measure by how much rows or columns differ in density beyond chance; columns by a sample."""
    starts = np.arange(0, shape[0] * shape[1] + 1, shape[1], dtype=positions.dtype)
    in_rows = np.diff(np.searchsorted(positions, starts))
    _, column = density.row_and_column(sampled(positions), shape[1])
    in_columns = np.bincount(column, minlength=shape[1])
    return max(density.unevenness(in_rows), density.unevenness(in_columns))


def columns_first_pays(gaps: np.ndarray, shape: Shape) -> bool:
    """Return whether gaps down the columns take fewer bits than gaps along the rows, in a band of rows."""
    positions = sparse_index.positions_of(gaps)
    most = max(2, shape[0] * tuning.SAMPLED_GAPS // gaps.size)
    first = max(0, shape[0] - most) // 2
    band = np.array([first, min(first + most, shape[0])]) * shape[1]
    begin, end = np.searchsorted(positions, band.astype(positions.dtype))
    if end - begin < 2:
        return False
    row, column = density.row_and_column(positions[begin:end] - positions.dtype.type(first * shape[1]), shape[1])
    down = np.sort(column.astype(np.int64) * min(most, shape[0]) + row)
    down_bits = sparse_index.choose_gap_coding(sparse_index.gaps_of(down)).bits
    return down_bits < tuning.COLUMNS_FIRST_GAIN * sparse_index.choose_gap_coding(gaps[begin:end]).bits
