"""EncodedTensor <-> record (FORMAT.md, section 4).

An encoded tensor has the positions of the kept elements (`Positions`; none if all are kept) and their values (`Values`,
in one of several forms), in row-major order or, for a matrix, columns first. Elements are compared by their bits, so
every bit comes back. `encoder` turns arrays into encoded tensors, and `decoder` turns them back.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from dcomp.coding import lockstep, positions, tuning, value_forms
from dcomp.coding.positions import Positions, Shape
from dcomp.coding.raw import Raw
from dcomp.coding.stream import Stream
from dcomp.coding.values import Buffer, Symbols, Values, ValuesContext
from dcomp.coding.wire import Cursor
from dcomp.errors import ContainerError

HAS_POSITIONS = 1
COLUMNS_FIRST = 16
HAS_CLASSES = 32
VALUE_FLAGS = 8
RESERVED_FLAGS = 128
"""Bits of a record's flags: three for the tensor, one for its values, one reserved. The other bits hold the form."""


@dataclass(frozen=True)
class EncodedTensor:
    """A tensor's dtype and shape, and the positions and values of its kept elements.

    Attributes:
        dtype: of the elements.
        shape: of the tensor.
        index: positions of the kept elements; None if all are kept.
        values: of the kept elements.
        columns_first: whether the matrix is transposed in the record.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    index: Positions | None
    values: Values
    columns_first: bool = False

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def kept(self) -> int:
        """Number of elements that have a value in the record."""
        return self.size if self.index is None else self.index.kept

    @property
    def matrix(self) -> Shape:
        """The matrix whose elements the record holds, row by row."""
        return matrix_of(self.shape, columns_first=self.columns_first)

    @property
    def streams(self) -> list[Stream]:
        """All streams of the record: of the positions, then of the values."""
        return [*(self.index.streams if self.index is not None else []), *self.values.streams]

    @property
    def memory(self) -> int:
        """About how many bytes decoding takes at its peak: the array, its streams, its positions."""
        copies = 1 + self.columns_first + self.values.COPIES
        return self.size * self.dtype.itemsize * copies + self._memory_of_parts

    @property
    def sparse_rows_memory(self) -> int:
        """About how many bytes sparse rows take at their peak: streams, kept elements, starts of rows."""
        rows, _ = matrix_of(self.shape, columns_first=False)
        kept = (tuning.SPARSE_ROWS_BYTES + 2 * self.dtype.itemsize) * self.kept
        return self._memory_of_parts + kept + tuning.ROW_BYTES * (rows + 1)

    @property
    def _memory_of_parts(self) -> int:
        """About how many bytes the streams and positions take."""
        streams = tuning.TENSOR_BYTES + lockstep.memory(self.streams)
        if self.index is None:
            return streams
        if self.index.classes is None:
            return streams + tuning.POSITION_BYTES * self.index.kept
        return streams + tuning.CELL_POSITION_BYTES * self.index.kept + tuning.LINE_BYTES * sum(self.matrix)

    @cached_property
    def index_bytes(self) -> bytes:
        """The bytes of the positions."""
        return b"" if self.index is None else self.index.to_bytes()

    @property
    def nbytes(self) -> int:
        """Size of the record."""
        _, number = value_forms.form_head(self.values)
        return 1 + len(number) + (0 if self.index is None else self.index.nbytes) + self.values.nbytes

    @property
    def record(self) -> bytes:
        """The record as FORMAT.md, section 4, specifies it."""
        return b"".join(self.parts())

    def parts(self) -> Iterator[Buffer]:
        """Yield the record in pieces, of which the large ones are not copied."""
        flags, number = value_forms.form_head(self.values)
        flags |= COLUMNS_FIRST * self.columns_first
        if self.index is not None:
            flags |= HAS_POSITIONS | HAS_CLASSES * (self.index.classes is not None)
        yield bytes([flags]) + number + self.index_bytes
        yield from self.values.parts()

    @classmethod
    def parse(cls, record: bytes | memoryview, dtype: np.dtype, shape: tuple[int, ...], label: str) -> "EncodedTensor":
        """Read a record; errors name it by `label`.

        Raises:
            ContainerError: it breaks the format.
        """
        cursor = Cursor(record, label)
        flags, form = _parse_head(cursor, rank=len(shape))
        columns_first, has_positions = bool(flags & COLUMNS_FIRST), bool(flags & HAS_POSITIONS)
        matrix = matrix_of(shape, columns_first=columns_first)
        index = Positions.parse(cursor, matrix, classes=bool(flags & HAS_CLASSES)) if has_positions else None
        count = prod(shape) if index is None else index.kept
        if count == 0 and form is not Raw:
            # "If m is 0, the form must be raw."
            raise ContainerError(f"{label}: {form.__name__.lower()} values where there are none")
        values = form.parse(cursor, ValuesContext(count, dtype, flags, has_positions))
        cursor.finish()
        return cls(dtype, shape, index, values, columns_first)

    def decode_positions(self, symbols: Symbols) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Decode the positions of the kept elements from their symbols.

        Returns:
            the positions in the matrix, shape (kept,), None if all are kept; and whether each follows its neighbour,
            None if no stream of the values needs that.

        Raises:
            ContainerError: the symbols do not fit.
        """
        if self.index is None:
            return None, None
        kept_positions, cells = self.index.decode(self.matrix, symbols)
        apart = any(stream.apart for stream in self.values.streams)
        return kept_positions, positions.follows(cells) if apart else None

    def assemble(self, kept_positions: np.ndarray | None, symbols: Symbols) -> np.ndarray:
        """Return the array, from the positions of the kept elements and the decoded symbols of their values.

        Raises:
            ContainerError: they do not fit.
        """
        patterns = self.values.patterns(symbols)
        if kept_positions is not None:
            flat = np.zeros(self.size, patterns.dtype)
            for begin in range(0, kept_positions.size, tuning.SCATTER_CHUNK):
                end = begin + tuning.SCATTER_CHUNK
                flat[kept_positions[begin:end]] = patterns[begin:end]
            patterns = flat
        if self.columns_first:
            patterns = np.ascontiguousarray(patterns.reshape(self.matrix).T)
        if not patterns.flags.writeable:  # a view of the container, whose file may change or go away
            patterns = patterns.copy()
        return patterns.view(self.dtype).reshape(self.shape)


def matrix_of(shape: tuple[int, ...], *, columns_first: bool) -> Shape:
    """Return the matrix of a tensor: its first dimension times the product of the others, or transposed."""
    rows, columns = (shape[0], prod(shape[1:])) if len(shape) > 1 else (1, prod(shape))
    return (columns, rows) if columns_first else (rows, columns)


def _parse_head(cursor: Cursor, *, rank: int) -> tuple[int, type[Values]]:
    """Read a record's flags and the form of its values.

    Raises:
        ContainerError: a flag or the form is reserved, or the tensor's rank does not allow it.
    """
    flags = cursor.byte()
    is_reserved = f"{cursor.label}: reserved bits are set in its flags {flags:#04x}"
    if flags & RESERVED_FLAGS or (flags & HAS_CLASSES and not flags & HAS_POSITIONS):
        raise ContainerError(is_reserved)
    form = value_forms.parse_form(cursor, flags)
    if flags & VALUE_FLAGS & ~form.ALLOWED_FLAGS:
        raise ContainerError(is_reserved)
    if flags & (COLUMNS_FIRST | HAS_CLASSES) and rank < 2:
        raise ContainerError(f"{cursor.label}: rows and columns in a tensor of {rank} dimensions")
    return flags, form
