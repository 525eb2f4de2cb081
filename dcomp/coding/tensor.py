"""Array <-> EncodedTensor: the smallest encoding wins (FORMAT.md, section 4).

An encoding is where the kept elements are (a `SparseIndex`, or nothing if all are kept) and what they are (`Values`,
in one of their forms). Elements are told apart by their bits, so whatever goes in comes out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from dcomp import dtypes
from dcomp.coding import huffman, sparse_index, values
from dcomp.coding.huffman import Stream
from dcomp.coding.limits import MAX_CODEBOOK_SIZE
from dcomp.coding.sparse_index import SparseIndex
from dcomp.coding.values import Planes, Raw, Shared, Symbols, Zstd
from dcomp.coding.wire import Cursor
from dcomp.errors import ContainerError

FORMS: tuple[type[values.Form], ...] = (Raw, Zstd, Shared, Planes)
HAS_POSITIONS = 1
CODEBOOK_IN_PLANES = 8
ALL_FLAGS = 15


@dataclass(frozen=True)
class EncodedTensor:
    """A tensor's dtype and shape, where its kept elements are, and what they are."""

    dtype: np.dtype
    shape: tuple[int, ...]
    index: SparseIndex | None
    values: values.Form

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
        """All streams of the record, in the order in which `assemble` takes their symbols."""
        gaps = self.index.gaps if self.index is not None else None
        return [*([] if gaps is None else [gaps]), *self.values.streams]

    @property
    def memory(self) -> int:
        """About how many bytes decoding takes at its peak: the array, its symbols, its positions."""
        symbols = sum(stream.count for stream in self.streams)
        return self.size * self.dtype.itemsize + 8 * symbols + 16 * (self.index.kept if self.index else 0)

    @cached_property
    def index_bytes(self) -> bytes:
        """The positions as they stand in the record."""
        return b"" if self.index is None else self.index.to_bytes()

    @cached_property
    def record(self) -> bytes:
        """The record as FORMAT.md, section 4, lays it out."""
        flags = FORMS.index(type(self.values)) << 1 | (self.index is not None)
        if isinstance(self.values, Shared) and isinstance(self.values.codebook, Planes):
            flags |= CODEBOOK_IN_PLANES
        return bytes([flags]) + self.index_bytes + self.values.to_bytes()

    @classmethod
    def parse(cls, record: bytes | memoryview, dtype: np.dtype, shape: tuple[int, ...], what: str) -> "EncodedTensor":
        """Read a record, which errors call `what`.

        Raises:
            ContainerError: it breaks the format.
        """
        cursor = Cursor(record, what)
        flags = cursor.byte()
        form = FORMS[flags >> 1 & 3]
        if flags & ~ALL_FLAGS or (flags & CODEBOOK_IN_PLANES and form is not Shared):
            raise ContainerError(f"{what}: reserved bits are set in its flags {flags:#04x}")
        elements = prod(shape)
        index = SparseIndex.parse(cursor, elements) if flags & HAS_POSITIONS else None
        count = elements if index is None else index.kept
        if count == 0 and form is not Raw:
            # "If m is 0, the form must be raw."
            raise ContainerError(f"{what}: {form.__name__.lower()} values where there are none")
        found: values.Form
        if form is Shared:
            found = Shared.parse(cursor, count, dtype, planes=bool(flags & CODEBOOK_IN_PLANES))
        elif form is Planes:
            found = Planes.parse(cursor, count, dtype)
        else:
            found = (Zstd if form is Zstd else Raw).parse(cursor, count, dtype.itemsize)
        cursor.finish()
        return cls(dtype, shape, index, found)

    def assemble(self, symbols: Symbols) -> np.ndarray:
        """The array, from the decoded symbols of `streams`.

        Raises:
            ContainerError: they do not fit.
        """
        gaps = next(symbols) if self.index is not None and self.index.kept else None
        patterns = self.values.patterns(symbols)
        if self.index is not None:
            flat = np.zeros(self.size, patterns.dtype)
            if gaps is not None:
                flat[sparse_index.decode(self.index, gaps, self.size)] = patterns
            patterns = flat
        if not patterns.flags.writeable:  # a view of the container, whose file may change or go away
            patterns = patterns.copy()
        return patterns.view(self.dtype).reshape(self.shape)


def encode(array: np.ndarray) -> EncodedTensor:
    """Find the zeros and the shared values of an array and code it in the fewest bytes."""
    patterns = dtypes.bit_patterns(array)
    positions = np.flatnonzero(patterns)
    if positions.size == patterns.size:
        return EncodedTensor(array.dtype, array.shape, None, values.encode(patterns, array.dtype))
    kept = patterns[positions]
    if kept.size == 0:
        return EncodedTensor(array.dtype, array.shape, SparseIndex(0), Raw(kept))
    gaps = sparse_index.gaps_of(positions)
    planned = sparse_index.plan(gaps)
    found = values.find_codebook(kept)
    if found is not None and not _worth_positions(planned, *found, zeros=patterns.size - kept.size):
        codebook, codes = found
        all_codes = np.full(patterns.size, codebook.size, codes.dtype)
        all_codes[positions] = codes
        with_zero = np.append(codebook, codebook.dtype.type(0)), all_codes
        return EncodedTensor(array.dtype, array.shape, None, values.encode(patterns, array.dtype, with_zero))
    sparse = EncodedTensor(
        array.dtype, array.shape, sparse_index.encode(gaps, planned), values.encode(kept, array.dtype, found)
    )
    if found is None and kept.size > patterns.size // 2:  # a few zeros among floats are hardly worth positions
        dense: values.Form | None = values.encode(patterns, array.dtype)
    else:
        dense = Zstd.smaller(patterns, limit=len(sparse.record) - 1)
    if dense is None or len(dense.to_bytes()) >= len(sparse.record) - 1:
        return sparse
    return EncodedTensor(array.dtype, array.shape, None, dense)


def _worth_positions(planned: sparse_index.GapPlan, codebook: np.ndarray, codes: np.ndarray, *, zeros: int) -> bool:
    """Whether positions and codes take fewer bits than codes among which zero is one."""
    if codebook.size == MAX_CODEBOOK_SIZE:  # no letter is left for zero
        return True
    counts = np.bincount(codes, minlength=codebook.size)
    element_bits = 8 * codebook.itemsize
    return planned.bits + _coded_bits(counts) < _coded_bits(np.append(counts, zeros)) + element_bits


def _coded_bits(counts: np.ndarray) -> int:
    return int(counts @ huffman.code_lengths(counts).astype(np.int64)) if np.count_nonzero(counts) > 1 else 0


def decode(tensors: Sequence[EncodedTensor]) -> list[np.ndarray]:
    """Decode tensors, all their streams in lock step; bit for bit what `encode` was given.

    Raises:
        ContainerError: damaged streams.
    """
    symbols = iter(huffman.decode([stream for tensor in tensors for stream in tensor.streams]))
    return [tensor.assemble(symbols) for tensor in tensors]
