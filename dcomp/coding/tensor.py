"""Array <-> EncodedTensor: the smallest encoding wins (FORMAT.md, section 4).

An encoding is where the kept elements are (`Positions`, or nothing if all are kept) and what they are (`Values`, in
one of their forms), in row-major order or, of a matrix, columns first. Elements are told apart by their bits, so
whatever goes in comes out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from dcomp import dtypes
from dcomp.coding import density, huffman, lockstep, positions, sparse_index, values
from dcomp.coding.level import DEFAULT, Level
from dcomp.coding.limits import MAX_CODEBOOK_SIZE
from dcomp.coding.plain import Buffer, Raw, Symbols, Zstd
from dcomp.coding.planes import Planes
from dcomp.coding.positions import Plan, Positions, Shape
from dcomp.coding.stream import Stream
from dcomp.coding.values import Codes, Shared
from dcomp.coding.wire import Cursor
from dcomp.errors import ContainerError

FORMS: tuple[type[values.Form], ...] = (Raw, Zstd, Shared, Planes)
HAS_POSITIONS = 1
CODEBOOK_IN_PLANES = 8
COLUMNS_FIRST = 16
HAS_CLASSES = 32
ALL_FLAGS = 63

NEARLY_DENSE = 0.995
"""A tensor that keeps this part of its elements is not worth positions."""

SCATTERED = 1 << 18
"""Kept elements that are put in their places at a time."""

CLOSE = 1.15
TRIED_BOTH = 1 << 20
"""With and without positions are both tried where estimates are closer than this factor, in tensors up to this size."""


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
        """About how many bytes decoding takes at its peak: the array, its symbols, its positions."""
        symbols = sum(stream.count for stream in self.streams)
        tables = sum(stream.lengths.size for stream in self.streams)
        own = self.size * self.dtype.itemsize * (2 if self.columns_first else 1)
        return own + 8 * (symbols + tables) + 24 * (self.index.kept if self.index else 0)

    @property
    def csr_memory(self) -> int:
        """About how many bytes `csr` takes at its peak: those of decoding, the kept elements, the starts of rows."""
        rows, _ = _matrix(self.shape, columns_first=False)
        return self.memory + 32 * (self.index.kept if self.index else self.size) + 16 * (rows + 1)

    @cached_property
    def index_bytes(self) -> bytes:
        """The positions as they stand in the record."""
        return b"" if self.index is None else self.index.to_bytes()

    @property
    def nbytes(self) -> int:
        """Size of the record."""
        return 1 + len(self.index_bytes) + self.values.nbytes

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
        matrix = _matrix(shape, columns_first=columns_first)
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
        found, cells = self.index.decode(_matrix(self.shape, columns_first=self.columns_first), symbols)
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
            patterns = np.ascontiguousarray(patterns.reshape(_matrix(self.shape, columns_first=True)).T)
        if not patterns.flags.writeable:  # a view of the container, whose file may change or go away
            patterns = patterns.copy()
        return patterns.view(self.dtype).reshape(self.shape)


def _matrix(shape: tuple[int, ...], *, columns_first: bool) -> Shape:
    """The matrix that a tensor is seen as: its first dimension times the product of the others, or transposed."""
    rows, columns = (shape[0], prod(shape[1:])) if len(shape) > 1 else (1, prod(shape))
    return (columns, rows) if columns_first else (rows, columns)


def encode(array: np.ndarray, level: Level = DEFAULT) -> EncodedTensor:
    """Find the zeros and the shared values of an array and code it in few bytes."""
    patterns = dtypes.bit_patterns(array)
    made = _Work(array.dtype, array.shape, level).encode(patterns)
    if level.exhaustive:  # more tries are not always better ones
        made = min(made, _Work(array.dtype, array.shape, DEFAULT).encode(patterns), key=lambda made: made.nbytes)
    return made


@dataclass(frozen=True)
class _Kept:
    """What is not zero in a tensor: the gaps before its elements, and the elements or their codes."""

    gaps: np.ndarray
    values: np.ndarray | Codes

    @classmethod
    def find(cls, patterns: np.ndarray, dtype: np.dtype, level: Level) -> "_Kept":
        """Look for zeros, and for a codebook of the others."""
        gaps, kept = sparse_index.scan(patterns)
        return cls(gaps, values.find_codes(kept, dtype, level) or kept)


@dataclass(frozen=True)
class _Work:
    """What is the same for all ways to encode an array."""

    dtype: np.dtype
    shape: tuple[int, ...]
    level: Level

    def encode(self, patterns: np.ndarray) -> EncodedTensor:
        """The smallest of the ways that are worth a try."""
        count = int(np.count_nonzero(patterns))
        if count == patterns.size or (count > NEARLY_DENSE * patterns.size and not self.level.exhaustive):
            return self._dense(values.find_codes(patterns, self.dtype, self.level) or patterns)
        kept = _Kept.find(patterns, self.dtype, self.level)
        if not kept.gaps.size:
            return EncodedTensor(self.dtype, self.shape, Positions(None, [sparse_index.GapIndex(0)]), Raw(patterns[:0]))
        if not self.level.exhaustive and self._surely_dense(kept, patterns.size):
            return self._dense(_with_zero(patterns, kept.values))
        matrix = _matrix(self.shape, columns_first=False)
        made = self._best(patterns, kept, matrix)
        if not self.level.orders or min(matrix) == 1:
            return made
        if self.level.exhaustive or (made.index and positions.columns_first_pays(kept.gaps, matrix)):
            del kept
            made = min(made, self._turned(patterns, matrix), key=lambda made: made.nbytes)
        return made

    def _turned(self, patterns: np.ndarray, matrix: Shape) -> EncodedTensor:
        """The best way with columns first."""
        patterns = np.ascontiguousarray(patterns.reshape(matrix).T).reshape(-1)
        made = self._best(patterns, _Kept.find(patterns, self.dtype, self.level), matrix[::-1])
        return EncodedTensor(made.dtype, made.shape, made.index, made.values, columns_first=True)

    def _surely_dense(self, kept: _Kept, size: int) -> bool:
        """Whether positions are so dear that nothing about them needs to be tried."""
        if not isinstance(kept.values, Codes) or kept.values.codebook.size == MAX_CODEBOOK_SIZE:
            return False  # free floats are worth positions, and of so many codes no letter is left for zero
        with_positions, without = _estimates(kept.values, sparse_index.plan(kept.gaps).bits, size - kept.gaps.size)
        return without * CLOSE < with_positions

    def _dense(self, all_values: np.ndarray | Codes) -> EncodedTensor:
        """Every element has a value."""
        return EncodedTensor(self.dtype, self.shape, None, self._coded(all_values, None))

    def _sparse(self, planned: Plan, kept: np.ndarray | Codes) -> EncodedTensor:
        """Positions and values."""
        index = planned.encode()
        if isinstance(kept, Codes):
            ordered: np.ndarray | Codes = Codes(kept.codebook, planned.ordered(kept.codes))
        else:
            ordered = planned.ordered(kept)
        return EncodedTensor(self.dtype, self.shape, index, self._coded(ordered, planned.follows()))

    def _coded(self, own: np.ndarray | Codes, follows: np.ndarray | None) -> values.Form:
        if isinstance(own, Codes):
            return values.encode_shared(own, self.dtype, self.level, follows)
        return values.encode(own, self.dtype, self.level)

    def _best(self, patterns: np.ndarray, kept: _Kept, matrix: Shape) -> EncodedTensor:
        """With positions or without, whichever is smaller; both are tried where that is not clear."""
        planned = positions.plan(kept.gaps, matrix, self.level)
        try_both = patterns.size <= TRIED_BOTH or self.level.exhaustive
        if isinstance(kept.values, Codes):
            if kept.values.codebook.size == MAX_CODEBOOK_SIZE:
                return self._or_zstd(self._sparse(planned, kept.values), patterns)
            zeros = patterns.size - kept.gaps.size
            with_positions, without = _estimates(kept.values, planned.bits, zeros)
            near = max(with_positions, without) < CLOSE * min(with_positions, without)
            try_both = (try_both and near) or self.level.exhaustive
            if without < with_positions and not try_both:
                return self._dense(_with_zero(patterns, kept.values))
        made = self._sparse(planned, kept.values)
        if try_both:
            made = min(made, self._dense(_with_zero(patterns, kept.values)), key=lambda made: made.nbytes)
        return self._or_zstd(made, patterns)

    def _or_zstd(self, made: EncodedTensor, patterns: np.ndarray) -> EncodedTensor:
        """A Zstandard frame of all elements if that is smaller."""
        limit = made.nbytes - 1
        frame = Zstd.smaller(patterns, limit, self.level.zstd, exhaustive=self.level.exhaustive)
        return made if frame is None else EncodedTensor(self.dtype, self.shape, None, frame)


def _estimates(found: Codes, position_bits: float, zeros: int) -> tuple[float, float]:
    """About how many bits positions and codes take, and codes among which zero is one."""
    counts = huffman.histogram(found.codes, found.codebook.size)
    without = huffman.estimated_bits(np.append(counts, zeros)) + 8 * found.codebook.itemsize
    return position_bits + huffman.estimated_bits(counts), without


def _with_zero(patterns: np.ndarray, kept: np.ndarray | Codes) -> np.ndarray | Codes:
    """All elements; if those kept have codes, zero gets one of its own."""
    if not isinstance(kept, Codes):
        return patterns
    size = kept.codebook.size
    codes = np.full(patterns.size, size, np.uint8 if size < 256 else np.uint16)
    codes[patterns != 0] = kept.codes
    return Codes(np.append(kept.codebook, kept.codebook.dtype.type(0)), codes)


def decode(tensors: Sequence[EncodedTensor]) -> list[np.ndarray]:
    """Decode tensors, all their streams in lock step; bit for bit what `encode` was given.

    Raises:
        ContainerError: damaged streams.
    """
    return [
        tensor.assemble(kept_at, symbols) for tensor, (kept_at, symbols) in zip(tensors, _symbols(tensors), strict=True)
    ]


def _symbols(tensors: Sequence[EncodedTensor]) -> Iterator[tuple[np.ndarray | None, Symbols]]:
    """For each tensor where its kept elements are and the symbols of its values.

    Codes that depend on their neighbours wait for the positions; all other streams are decoded together.
    """
    streams = [stream for tensor in tensors for stream in tensor.streams]
    first = iter(lockstep.decode([stream for stream in streams if not stream.apart]))
    found, waiting = [], []
    for tensor in tensors:
        kept_at, follows = tensor.positions(first)
        own = [None if stream.apart else next(first) for stream in tensor.values.streams]
        waiting += [(stream, follows) for stream in tensor.values.streams if stream.apart]
        found.append((kept_at, own))
    last = iter(lockstep.decode([stream for stream, _ in waiting], [follows for _, follows in waiting]))
    for kept_at, own in found:
        yield kept_at, iter([next(last) if symbols is None else symbols for symbols in own])


def csr(tensor: EncodedTensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The kept elements of a tensor in compressed sparse rows, straight from its streams.

    Returns:
        row starts, int64, shape (rows + 1,); columns, int64, and values, shape (kept,), row by row.

    Raises:
        ContainerError: damaged streams.
    """
    ((kept_at, symbols),) = _symbols([tensor])
    patterns = tensor.values.patterns(symbols)
    rows, columns = _matrix(tensor.shape, columns_first=False)
    if kept_at is None:
        found = np.flatnonzero(patterns)
        patterns = patterns[found]
    else:
        found = kept_at.astype(np.int64)
    if tensor.columns_first:
        column, row = density.divided(found, rows)
        found = row * columns + column
    if tensor.columns_first or (tensor.index is not None and tensor.index.classes is not None):
        order = np.argsort(found, kind="stable")
        found, patterns = found[order], patterns[order]
    row, column = density.divided(found, columns) if columns else (found, found)
    starts = np.searchsorted(row, np.arange(rows + 1))
    return starts, column, patterns.view(tensor.dtype)
