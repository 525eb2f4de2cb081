"""EncodedTensor <-> record, and -> array (FORMAT.md, section 4).

An encoding is where the kept elements are (`Positions`, or nothing if all are kept) and what they are (`Values`, in
one of their forms), in row-major order or, of a matrix, columns first. Elements are told apart by their bits, so
whatever goes in comes out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from dcomp.coding import density, lockstep, positions, values
from dcomp.coding.plain import Buffer, Raw, Symbols, Zstd
from dcomp.coding.planes import Planes
from dcomp.coding.positions import Positions, Shape
from dcomp.coding.stream import Stream
from dcomp.coding.values import Shared
from dcomp.coding.wire import Cursor
from dcomp.errors import ContainerError

FORMS: tuple[type[values.Form], ...] = (Raw, Zstd, Shared, Planes)
HAS_POSITIONS = 1
CODEBOOK_IN_PLANES = 8
COLUMNS_FIRST = 16
HAS_CLASSES = 32
ALL_FLAGS = 63

TENSOR_BYTES, POSITION_BYTES, CELL_POSITION_BYTES, LINE_BYTES = 4000, 24, 80, 24
"""About what decoding takes for a tensor, a kept element, one in a cell, and a row or column that has a class."""

CSR_BYTES, ROW_BYTES = 48, 16
"""About what making sparse rows takes for a kept element and for a row."""

SCATTERED = 1 << 18
"""Kept elements that are put in their places at a time."""


@dataclass(frozen=True)
class EncodedTensor:
    """A tensor's dtype and shape, where its kept elements are, and what they are.

    Attributes:
        dtype: of the elements.
        shape: of the tensor.
        index: positions of the kept elements; None if all are kept.
        values: of the kept elements.
        columns_first: whether the elements are those of the transposed matrix.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    index: Positions | None
    values: values.Form
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
    def streams(self) -> list[Stream]:
        """All streams of the record: of the positions, then of the values."""
        return [*(self.index.streams if self.index is not None else []), *self.values.streams]

    @property
    def memory(self) -> int:
        """About how many bytes decoding takes at its peak: the array, its streams, its positions."""
        copies = 1 + self.columns_first + isinstance(self.values, Zstd | Planes)
        return self.size * self.dtype.itemsize * copies + self._memory_before_it_is_put_together

    @property
    def _memory_before_it_is_put_together(self) -> int:
        streams = TENSOR_BYTES + lockstep.memory(self.streams)
        if self.index is None:
            return streams
        if self.index.classes is None:
            return streams + POSITION_BYTES * self.index.kept
        lines = sum(matrix_of(self.shape, columns_first=self.columns_first))
        return streams + CELL_POSITION_BYTES * self.index.kept + LINE_BYTES * lines

    @property
    def csr_memory(self) -> int:
        """About how many bytes `sparse_rows` takes at its peak: its streams, the kept elements, the starts of rows."""
        rows, _ = matrix_of(self.shape, columns_first=False)
        kept = (CSR_BYTES + 2 * self.dtype.itemsize) * self.kept
        return self._memory_before_it_is_put_together + kept + ROW_BYTES * (rows + 1)

    @cached_property
    def index_bytes(self) -> bytes:
        """The positions as they stand in the record."""
        return b"" if self.index is None else self.index.to_bytes()

    @property
    def nbytes(self) -> int:
        """Size of the record."""
        return 1 + (0 if self.index is None else self.index.nbytes) + self.values.nbytes

    @property
    def record(self) -> bytes:
        """The record as FORMAT.md, section 4, lays it out."""
        return b"".join(self.parts())

    def parts(self) -> Iterator[Buffer]:
        """The record in pieces, of which the large ones are not copied."""
        flags = FORMS.index(type(self.values)) << 1 | COLUMNS_FIRST * self.columns_first
        if self.index is not None:
            flags |= HAS_POSITIONS | HAS_CLASSES * (self.index.classes is not None)
        if isinstance(self.values, Shared) and isinstance(self.values.codebook, Planes):
            flags |= CODEBOOK_IN_PLANES
        yield bytes([flags]) + self.index_bytes
        yield from self.values.parts()

    @classmethod
    def parse(cls, record: bytes | memoryview, dtype: np.dtype, shape: tuple[int, ...], what: str) -> "EncodedTensor":
        """Read a record, which errors call `what`.

        Raises:
            ContainerError: it breaks the format.
        """
        cursor = Cursor(record, what)
        flags = cursor.byte()
        form = FORMS[flags >> 1 & 3]
        columns_first, has_classes = bool(flags & COLUMNS_FIRST), bool(flags & HAS_CLASSES)
        if (
            flags & ~ALL_FLAGS
            or (flags & CODEBOOK_IN_PLANES and form is not Shared)
            or (has_classes and not flags & HAS_POSITIONS)
        ):
            raise ContainerError(f"{what}: reserved bits are set in its flags {flags:#04x}")
        if (columns_first or has_classes) and len(shape) < 2:
            raise ContainerError(f"{what}: rows and columns in a tensor of {len(shape)} dimensions")
        matrix = matrix_of(shape, columns_first=columns_first)
        index = Positions.parse(cursor, matrix, classes=has_classes) if flags & HAS_POSITIONS else None
        count = prod(shape) if index is None else index.kept
        if count == 0 and form is not Raw:
            # "If m is 0, the form must be raw."
            raise ContainerError(f"{what}: {form.__name__.lower()} values where there are none")
        found: values.Form
        if form is Shared:
            found = Shared.parse(cursor, count, dtype, planes=bool(flags & CODEBOOK_IN_PLANES), apart=index is not None)
        elif form is Planes:
            found = Planes.parse(cursor, count, dtype)
        else:
            found = (Zstd if form is Zstd else Raw).parse(cursor, count, dtype.itemsize)
        cursor.finish()
        return cls(dtype, shape, index, found, columns_first)

    def positions(self, symbols: Symbols) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Where the kept elements are, and which follow their neighbour, from the decoded symbols of the positions.

        Raises:
            ContainerError: they do not fit.
        """
        if self.index is None:
            return None, None
        found, cells = self.index.decode(matrix_of(self.shape, columns_first=self.columns_first), symbols)
        apart = any(stream.apart for stream in self.values.streams)
        return found, positions.follows(cells) if apart else None

    def assemble(self, kept_at: np.ndarray | None, symbols: Symbols) -> np.ndarray:
        """The array, from the positions of the kept elements and the decoded symbols of their values.

        Raises:
            ContainerError: they do not fit.
        """
        patterns = self.values.patterns(symbols)
        if kept_at is not None:
            flat = np.zeros(self.size, patterns.dtype)
            for begin in range(0, kept_at.size, SCATTERED):
                flat[kept_at[begin : begin + SCATTERED]] = patterns[begin : begin + SCATTERED]
            patterns = flat
        if self.columns_first:
            patterns = np.ascontiguousarray(patterns.reshape(matrix_of(self.shape, columns_first=True)).T)
        if not patterns.flags.writeable:  # a view of the container, whose file may change or go away
            patterns = patterns.copy()
        return patterns.view(self.dtype).reshape(self.shape)


def matrix_of(shape: tuple[int, ...], *, columns_first: bool) -> Shape:
    """The matrix that a tensor is seen as: its first dimension times the product of the others, or transposed."""
    rows, columns = (shape[0], prod(shape[1:])) if len(shape) > 1 else (1, prod(shape))
    return (columns, rows) if columns_first else (rows, columns)


def decode_tensors(tensors: Sequence[EncodedTensor]) -> list[np.ndarray]:
    """Decode tensors, all their streams in lock step; bit for bit what `encode` was given.

    Raises:
        ContainerError: damaged streams.
    """
    decoded = []
    for array in decode_each_tensor(tensors):
        if isinstance(array, ContainerError):
            raise array
        decoded.append(array)
    return decoded


def decode_each_tensor(tensors: Sequence[EncodedTensor]) -> Iterator[np.ndarray | ContainerError]:
    """Decode tensors, all their streams in lock step; give each in order, or the error that its streams are damaged."""
    for tensor, found in zip(tensors, _symbols(tensors), strict=True):
        try:
            yield found if isinstance(found, ContainerError) else tensor.assemble(*found)
        except ContainerError as error:
            yield error.with_traceback(None)


def _symbols(tensors: Sequence[EncodedTensor]) -> Iterator[tuple[np.ndarray | None, Symbols] | ContainerError]:
    """For each tensor where its kept elements are and the symbols of its values, or the error of its streams.

    Codes that depend on their neighbours wait for the positions; all other streams are decoded together.
    """
    streams = [stream for tensor in tensors for stream in tensor.streams]
    first = iter(lockstep.decode_each_stream([stream for stream in streams if not stream.apart]))
    found: list[tuple[np.ndarray | None, list[lockstep.Decoded | None]] | ContainerError] = []
    waiting: list[tuple[Stream, np.ndarray | None]] = []
    for tensor in tensors:
        own: list[lockstep.Decoded | None] = [None if stream.apart else next(first) for stream in tensor.streams]
        try:
            symbols = _whole(own)
            kept_at, follows = tensor.positions(symbols)
        except ContainerError as error:
            found.append(error.with_traceback(None))
            continue
        waiting += [(stream, follows) for stream in tensor.streams if stream.apart]
        found.append((kept_at, own[len(own) - len(tensor.values.streams) :]))
    last = iter(lockstep.decode_each_stream([stream for stream, _ in waiting], [follows for _, follows in waiting]))
    for made in found:
        if isinstance(made, ContainerError):
            yield made
            continue
        kept_at, own = made
        try:
            yield kept_at, _whole([next(last) if symbols is None else symbols for symbols in own])
        except ContainerError as error:
            yield error.with_traceback(None)


def _whole(decoded: Sequence[lockstep.Decoded | None]) -> Symbols:
    """The symbols of a tensor's streams.

    Raises:
        ContainerError: that of one of them.
    """
    whole: list[np.ndarray] = []
    for symbols in decoded:
        if isinstance(symbols, ContainerError):
            raise symbols
        if symbols is not None:
            whole.append(symbols)
    return iter(whole)


def in_rows(tensor: EncodedTensor, kept_at: np.ndarray) -> np.ndarray:
    """Positions in a tensor's record as positions in the tensor, row-major, in the same order; int64, shape (kept,)."""
    found = kept_at.astype(np.int64, copy=False)
    if not tensor.columns_first:
        return found
    rows, columns = matrix_of(tensor.shape, columns_first=False)
    column, row = density.divided(found, rows)
    return row * columns + column


def sparse_rows(tensor: EncodedTensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The kept elements of a tensor in compressed sparse rows, straight from its streams.

    Returns:
        row starts, int64, shape (rows + 1,); columns, int64, and values, shape (kept,), row by row.

    Raises:
        ContainerError: damaged streams.
    """
    (decoded,) = _symbols([tensor])
    if isinstance(decoded, ContainerError):
        raise decoded
    kept_at, symbols = decoded
    patterns = tensor.values.patterns(symbols)
    rows, columns = matrix_of(tensor.shape, columns_first=False)
    if kept_at is None:
        kept_at = np.flatnonzero(patterns)
        patterns = patterns[kept_at]
    found = in_rows(tensor, kept_at)
    if tensor.columns_first or (tensor.index is not None and tensor.index.classes is not None):
        order = np.argsort(found, kind="stable")
        found, patterns = found[order], patterns[order]
    row, column = density.divided(found, columns) if columns else (found, found)
    starts = np.searchsorted(row, np.arange(rows + 1))
    return starts, column, patterns.view(tensor.dtype)
