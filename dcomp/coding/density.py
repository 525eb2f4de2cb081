"""Rows and columns in classes by their density, so that each cell gets a code that suits it (FORMAT.md, 4.1).

A tensor is a *matrix*: its first dimension times the product of the others. Rows that keep about the same part of
their elements form a class, and so do columns; a *cell* holds the elements where the rows of one class meet the columns
of another, in row-major order.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dcomp.coding import huffman, tuning
from dcomp.coding.limits import MAX_DENSITY_CLASSES
from dcomp.coding.stream import Stream
from dcomp.coding.wire import Cursor
from dcomp.errors import ContainerError


@dataclass(frozen=True)
class Classes:
    """The class of each row and of each column.

    Attributes:
        rows: shape (rows,), uint8.
        columns: shape (columns,), uint8.
        counts: numbers of classes of rows and of columns, each from 1 to the limit.
    """

    rows: np.ndarray
    columns: np.ndarray
    counts: tuple[int, int]

    @property
    def cells(self) -> int:
        """Number of cells."""
        return self.counts[0] * self.counts[1]

    @cached_property
    def members(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The rows of each class, and the columns of each class, ascending."""
        rows = [np.flatnonzero(self.rows == number) for number in range(self.counts[0])]
        return rows, [np.flatnonzero(self.columns == number) for number in range(self.counts[1])]

    @cached_property
    def _ranks(self) -> tuple[np.ndarray, np.ndarray]:
        """For each row and each column, how many of its class come before."""
        ranks = np.zeros(self.rows.size, np.int64), np.zeros(self.columns.size, np.int64)
        for rank, members in zip(ranks, self.members, strict=True):
            for lines in members:
                rank[lines] = np.arange(lines.size)
        return ranks

    def sizes(self) -> list[int]:
        """Return the number of elements of each cell, in order: by class of rows, then by class of columns."""
        rows, columns = self.members
        return [of_row.size * of_column.size for of_row in rows for of_column in columns]

    def sorted_into_cells(self, positions: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Sort positions of the matrix, ascending, by cell.

        Returns:
            their order, and for each cell its positions in the cell, ascending.
        """
        cell = self.cell_of(positions)
        order = np.argsort(cell, kind="stable")
        row, column = row_and_column(positions[order], self.columns.size)
        widths = np.array([columns.size for columns in self.members[1]])
        inside = self._ranks[0][row] * widths[self.columns[column]] + self._ranks[1][column]
        return order, np.split(inside, np.cumsum(np.bincount(cell, minlength=self.cells))[:-1])

    def cell_of(self, positions: np.ndarray) -> np.ndarray:
        """Return the number of the cell that holds each position of the matrix; uint8, shape (n,)."""
        row, column = row_and_column(positions, self.columns.size)
        cell = self.rows[row] * np.uint8(self.counts[1])
        cell += self.columns[column]
        return cell

    def matrix_positions(self, cell: int, positions: np.ndarray) -> np.ndarray:
        """Turn positions in a cell into positions in the matrix; int64 in a matrix of 2^32 elements or more."""
        rows, columns = self.members
        cell_rows, cell_columns = rows[cell // self.counts[1]], columns[cell % self.counts[1]]
        row, column = row_and_column(positions, cell_columns.size)
        flat = cell_rows[row]
        flat *= self.columns.size
        flat += cell_columns[column]
        return flat if self.rows.size * self.columns.size >= 1 << 32 else flat.astype(positions.dtype, copy=False)


@dataclass(frozen=True)
class CodedClasses:
    """Classes as they stand in a record; a stream is absent where all are of one class."""

    counts: tuple[int, int]
    rows: Stream | None
    columns: Stream | None

    @property
    def streams(self) -> list[Stream]:
        """The streams that are present."""
        return [stream for stream in (self.rows, self.columns) if stream is not None]

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return len(self.counts) + sum(stream.nbytes for stream in self.streams)

    def to_bytes(self) -> bytes:
        """Return the classes as FORMAT.md, section 4.1, specifies them."""
        return bytes(self.counts) + b"".join(stream.to_bytes() for stream in self.streams)

    @classmethod
    def encode(cls, classes: Classes) -> "CodedClasses":
        """Code the classes of rows and columns."""
        rows, columns = classes.counts
        return cls(
            classes.counts,
            huffman.encode_stream(classes.rows, rows) if rows > 1 else None,
            huffman.encode_stream(classes.columns, columns) if columns > 1 else None,
        )

    @classmethod
    def parse(cls, cursor: Cursor, shape: tuple[int, int]) -> "CodedClasses":
        """Read the classes of a matrix of that shape.

        Raises:
            ContainerError: they break the format.
        """
        counts = cursor.byte(), cursor.byte()
        if not all(1 <= count <= MAX_DENSITY_CLASSES for count in counts) or counts == (1, 1):
            raise ContainerError(f"{cursor.label}: {counts[0]} classes of rows and {counts[1]} of columns")
        # "A matrix with classes must have at least one row and one column."
        if 0 in shape:
            raise ContainerError(f"{cursor.label}: classes of a matrix of {shape[0]} x {shape[1]}")
        rows, columns = (
            Stream.parse(cursor, size, count) if count > 1 else None for size, count in zip(shape, counts, strict=True)
        )
        return cls(counts, rows, columns)

    def decode(self, shape: tuple[int, int], symbols: Iterator[np.ndarray]) -> Classes:
        """Return the classes, from the decoded symbols of `streams`."""
        rows, columns = (
            np.zeros(size, np.uint8) if stream is None else np.ascontiguousarray(next(symbols))
            for size, stream in zip(shape, (self.rows, self.columns), strict=True)
        )
        return Classes(rows, columns, self.counts)


def row_and_column(positions: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and the column of each position in a matrix with this number of columns."""
    row = positions // positions.dtype.type(columns)
    return row, positions - row * positions.dtype.type(columns)


def entropy_of_density(kept: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return the entropy in bits of `size` elements of which `kept` are kept, each independent of the others."""
    part = np.divide(kept, size, out=np.zeros(np.broadcast(kept, size).shape), where=size > 0)
    inner = (part > 0) & (part < 1)
    part = np.where(inner, part, 0.5)
    return np.where(inner, size * -(part * np.log2(part) + (1 - part) * np.log2(1 - part)), 0.0)


def classified(kept: np.ndarray, size: int, classes: int) -> np.ndarray:
    """Sort lines into classes so that knowing a line's class saves the most bits; uint8, shape (lines,).

    Lines are sorted by density; dynamic programming chooses the best cuts, at up to `tuning.DENSITY_CUTS` places.

    Args:
        kept: how many elements each line keeps, shape (lines,).
        size: elements of a line.
        classes: how many classes there may be.
    """
    order = np.argsort(kept, kind="stable")
    cuts = np.unique(np.linspace(0, kept.size, tuning.DENSITY_CUTS + 1).astype(np.int64))
    total = np.concatenate([[0], np.cumsum(kept[order])])[cuts]
    lines = cuts[None, :] - cuts[:, None]
    cost = np.where(
        lines > 0,
        entropy_of_density(np.maximum(total[None, :] - total[:, None], 0), np.maximum(lines, 0) * size),
        np.inf,
    )
    best, choices = cost[0], []
    for _ in range(min(classes, cuts.size - 1) - 1):
        through = best[:, None] + cost
        choices.append(through.argmin(axis=0))
        best = through.min(axis=0)
    class_of = np.zeros(kept.size, np.uint8)
    end = cuts.size - 1
    for number, choice in zip(range(len(choices), 0, -1), reversed(choices), strict=True):
        begin = int(choice[end])
        class_of[order[cuts[begin] : cuts[end]]] = number
        end = begin
    return class_of


def unevenness(kept: np.ndarray) -> float:
    """Measure how much lines differ in density beyond chance: the variance of their densities over the squared mean.

    Args:
        kept: how many elements some lines, or samples of them, keep, shape (lines,).
    """
    mean = kept.mean()
    return float((kept.var() - mean) / mean**2) if mean else 0.0


def propose_classes(
    positions: np.ndarray, shape: tuple[int, int], numbers: tuple[int, ...]
) -> list[tuple[float, Classes]]:
    """Return classes that may save bits, each with the entropy of positions and classes in bits, the smallest first.

    Args:
        positions: of the kept elements in the matrix, ascending.
        shape: of the matrix.
        numbers: of classes that are tried, for rows and for columns.
    """
    row, column = row_and_column(positions, shape[1])
    of_rows = _by_number(huffman.histogram(row, shape[0]), shape[1], numbers)
    of_columns = _by_number(huffman.histogram(column, shape[1]), shape[0], numbers)
    proposals = []
    for rows, columns in [*((n, 1) for n in numbers), *((1, n) for n in numbers), *((n, n) for n in numbers)]:
        if rows > shape[0] or columns > shape[1]:
            continue
        classes = Classes(of_rows[rows], of_columns[columns], (rows, columns))
        cell = classes.rows[row] * np.uint8(columns) + classes.columns[column]
        bits = entropy_of_density(huffman.histogram(cell, classes.cells), np.array(classes.sizes())).sum()
        bits += sum(huffman.entropy_bits(np.bincount(lines)) for lines in (classes.rows, classes.columns))
        proposals.append((float(bits), classes))
    return sorted(proposals, key=lambda proposal: proposal[0])


def _by_number(kept: np.ndarray, size: int, numbers: tuple[int, ...]) -> dict[int, np.ndarray]:
    return {1: np.zeros(kept.size, np.uint8)} | {number: classified(kept, size, number) for number in numbers}
