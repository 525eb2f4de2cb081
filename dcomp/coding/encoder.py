"""Array -> EncodedTensor: of all ways to encode it that are worth a try, the smallest (FORMAT.md, section 4).

Estimates from histograms decide what is tried; what is tried is made, and measured in bytes.
"""

from dataclasses import dataclass

import numpy as np

from dcomp.checkpoints import dtypes
from dcomp.coding import huffman, positions, sparse_index, values
from dcomp.coding.level import DEFAULT, Level
from dcomp.coding.limits import MAX_CODEBOOK_SIZE
from dcomp.coding.plain import Raw, Zstd
from dcomp.coding.positions import PositionCoding, Positions, Shape
from dcomp.coding.record import EncodedTensor, matrix_of
from dcomp.coding.values import Codes

NEARLY_DENSE = 0.995
"""A tensor that keeps this part of its elements is not worth positions."""

CLOSE = 1.15
TRIED_BOTH = 1 << 20
"""With and without positions are both tried where estimates are closer than this factor, in tensors up to this size."""

BAND, TALL = 1 << 17, 64
"""Elements of a band of a matrix, and its rows at least, by which an exhaustive search judges ways for a larger one."""


def encode_tensor(array: np.ndarray, level: Level = DEFAULT) -> EncodedTensor:
    """Find the zeros and the shared values of an array and code it in few bytes."""
    patterns = dtypes.bit_patterns(array)
    made = _Ways(array.dtype, array.shape, level).encode(patterns)
    if level.exhaustive:  # more tries are not always better ones
        made = min(made, _Ways(array.dtype, array.shape, DEFAULT).encode(patterns), key=lambda made: made.nbytes)
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
class _Ways:
    """What is the same for all ways to encode an array."""

    dtype: np.dtype
    shape: tuple[int, ...]
    level: Level

    def encode(self, patterns: np.ndarray) -> EncodedTensor:
        """The smallest of the ways that are worth a try."""
        count = int(np.count_nonzero(patterns))
        if count == patterns.size or (count > NEARLY_DENSE * patterns.size and not self.level.exhaustive):
            return self._dense(values.find_codes(patterns, self.dtype, self.level) or patterns)
        if self.level.exhaustive and patterns.size > 2 * BAND:
            return self._judged_by_a_band(patterns)
        kept = _Kept.find(patterns, self.dtype, self.level)
        if not kept.gaps.size:
            return EncodedTensor(self.dtype, self.shape, Positions(None, [sparse_index.GapIndex(0)]), Raw(patterns[:0]))
        if not self.level.exhaustive and self._surely_dense(kept, patterns.size):
            return self._dense(_with_zero(patterns, kept.values))
        matrix = matrix_of(self.shape, columns_first=False)
        made = self._best(patterns, kept, matrix)
        if not self.level.orders or min(matrix) == 1:
            return made
        if self.level.exhaustive or (made.index and positions.columns_first_pays(kept.gaps, matrix)):
            del kept
            made = min(made, self._turned(patterns, matrix), key=lambda made: made.nbytes)
        return made

    def _judged_by_a_band(self, patterns: np.ndarray) -> EncodedTensor:
        """The way that does best on a band of a large tensor."""
        matrix = matrix_of(self.shape, columns_first=False)
        band = _band(patterns.reshape(matrix))
        on_band = _Ways(self.dtype, band.shape, self.level)
        ways = [(sparse, turned) for turned in (False, True)[: min(matrix)] for sparse in (True, False)]
        sizes = [on_band._way(band.reshape(-1), *way).nbytes for way in ways]
        return self._or_zstd(self._way(patterns, *ways[sizes.index(min(sizes))]), patterns)

    def _way(self, patterns: np.ndarray, sparse: bool, turned: bool) -> EncodedTensor:
        """One way: with positions or without, columns first or not."""
        matrix = matrix_of(self.shape, columns_first=turned)
        if turned:
            patterns = np.ascontiguousarray(patterns.reshape(matrix[::-1]).T).reshape(-1)
        if sparse and patterns.any():
            kept = _Kept.find(patterns, self.dtype, self.level)
            made = self._sparse(positions.choose_position_coding(kept.gaps, matrix, self.level), kept.values)
        else:
            made = self._dense(values.find_codes(patterns, self.dtype, self.level) or patterns)
        return EncodedTensor(made.dtype, made.shape, made.index, made.values, columns_first=turned)

    def _turned(self, patterns: np.ndarray, matrix: Shape) -> EncodedTensor:
        """The best way with columns first."""
        patterns = np.ascontiguousarray(patterns.reshape(matrix).T).reshape(-1)
        made = self._best(patterns, _Kept.find(patterns, self.dtype, self.level), matrix[::-1])
        return EncodedTensor(made.dtype, made.shape, made.index, made.values, columns_first=True)

    def _surely_dense(self, kept: _Kept, size: int) -> bool:
        """Whether positions are so dear that nothing about them needs to be tried."""
        if not isinstance(kept.values, Codes) or kept.values.codebook.size == MAX_CODEBOOK_SIZE:
            return False  # free floats are worth positions, and of so many codes no letter is left for zero
        position_bits = sparse_index.choose_gap_coding(kept.gaps).bits
        with_positions, without = _estimates(kept.values, position_bits, size - kept.gaps.size)
        return without * CLOSE < with_positions

    def _dense(self, all_values: np.ndarray | Codes) -> EncodedTensor:
        """Every element has a value."""
        return EncodedTensor(self.dtype, self.shape, None, self._coded(all_values, None))

    def _sparse(self, planned: PositionCoding, kept: np.ndarray | Codes) -> EncodedTensor:
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
        planned = positions.choose_position_coding(kept.gaps, matrix, self.level)
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


def _band(matrix: np.ndarray) -> np.ndarray:
    """A part of a matrix, from its middle: whole rows, or parts of some below each other where rows are long."""
    rows, columns = matrix.shape
    height = min(rows, max(TALL, BAND // columns))
    width = min(columns, BAND // height)
    top, left = (rows - height) // 2, (columns - width) // 2
    return np.ascontiguousarray(matrix[top : top + height, left : left + width])


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
