"""Array -> EncodedTensor: several encodings are tried, and the smallest is used (FORMAT.md, section 4).

Estimates from histograms decide which encodings are tried; those are encoded in full, and their bytes are counted.
"""

from dataclasses import dataclass, replace

import numpy as np

from dcomp.checkpoints import dtypes
from dcomp.coding import huffman, positions, sparse_index, tuning, value_choice
from dcomp.coding.codebook import IndexedValues, find_codebook
from dcomp.coding.level import DEFAULT, Level
from dcomp.coding.limits import MAX_CODEBOOK_SIZE
from dcomp.coding.positions import PositionCoding, Positions, Shape
from dcomp.coding.raw import Raw
from dcomp.coding.record import EncodedTensor, matrix_of
from dcomp.coding.sparse_index import GapIndex
from dcomp.coding.values import Values
from dcomp.coding.zstd import Zstd


def encode_tensor(array: np.ndarray, level: Level = DEFAULT) -> EncodedTensor:
    """Find the zeros and the shared values of an array and encode it in few bytes."""
    patterns = dtypes.bit_patterns(array)
    encoded = _Encoder(array.dtype, array.shape, level).encode(patterns)
    if not level.exhaustive:
        return encoded
    return _smaller(encoded, _Encoder(array.dtype, array.shape, DEFAULT).encode(patterns))  # estimates may mislead


@dataclass(frozen=True)
class _KeptElements:
    """The elements of a tensor that are not zero.

    Attributes:
        gaps: zeros before each, shape (kept,).
        values: the elements, or their codebook and codes.
    """

    gaps: np.ndarray
    values: np.ndarray | IndexedValues

    @classmethod
    def find(cls, patterns: np.ndarray, dtype: np.dtype, level: Level) -> "_KeptElements":
        """Look for zeros, and for a codebook of the others."""
        gaps, kept = sparse_index.scan(patterns)
        return cls(gaps, find_codebook(kept, dtype, level) or kept)


@dataclass(frozen=True)
class _Encoder:
    """The ways to encode an array of one dtype and shape.

    Patterns have shape (n,), in the order of the matrix that a way encodes.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    level: Level

    def encode(self, patterns: np.ndarray) -> EncodedTensor:
        """Try the encodings that may be the smallest, and return the smallest."""
        count = int(np.count_nonzero(patterns))
        if count == patterns.size or (count > tuning.NEARLY_DENSE * patterns.size and not self.level.exhaustive):
            return self._without_positions(self._all_values(patterns))
        if self.level.exhaustive and patterns.size > 2 * tuning.BAND_ELEMENTS:
            return self._best_on_band(patterns)
        kept = _KeptElements.find(patterns, self.dtype, self.level)
        if not kept.gaps.size:
            return EncodedTensor(self.dtype, self.shape, Positions(None, [GapIndex(0)]), Raw(patterns[:0]))
        if not self.level.exhaustive and self._is_clearly_dense(kept, patterns.size):
            return self._without_positions(_with_zero(patterns, kept.values))
        matrix = matrix_of(self.shape, columns_first=False)
        encoded = self._rows_first(patterns, kept, matrix)
        if not self.level.orders or min(matrix) == 1:
            return encoded
        if self.level.exhaustive or (encoded.index and positions.columns_first_pays(kept.gaps, matrix)):
            del kept
            encoded = _smaller(encoded, self._columns_first(patterns, matrix))
        return encoded

    def _best_on_band(self, patterns: np.ndarray) -> EncodedTensor:
        """Encode a large tensor in the way that does best on a band of it."""
        matrix = matrix_of(self.shape, columns_first=False)
        band = _band(patterns.reshape(matrix))
        band_encoder = _Encoder(self.dtype, band.shape, self.level)
        ways = [(sparse, columns_first) for columns_first in (False, True)[: min(matrix)] for sparse in (True, False)]
        sizes = [band_encoder._encode_in_way(band.reshape(-1), *way).nbytes for way in ways]
        return self._or_zstd(self._encode_in_way(patterns, *ways[sizes.index(min(sizes))]), patterns)

    def _encode_in_way(self, patterns: np.ndarray, sparse: bool, columns_first: bool) -> EncodedTensor:
        """Encode with positions or without, columns first or not."""
        matrix = matrix_of(self.shape, columns_first=columns_first)
        if columns_first:
            patterns = _transposed(patterns, matrix[::-1])
        if sparse and patterns.any():
            kept = _KeptElements.find(patterns, self.dtype, self.level)
            coding = positions.choose_position_coding(kept.gaps, matrix, self.level)
            encoded = self._with_positions(coding, kept.values)
        else:
            encoded = self._without_positions(self._all_values(patterns))
        return replace(encoded, columns_first=columns_first)

    def _rows_first(self, patterns: np.ndarray, kept: _KeptElements, matrix: Shape) -> EncodedTensor:
        """Encode with positions or without, whichever is smaller; both are tried where estimates are close."""
        coding = positions.choose_position_coding(kept.gaps, matrix, self.level)
        try_both = patterns.size <= tuning.MAX_TRIED_BOTH or self.level.exhaustive
        if isinstance(kept.values, IndexedValues):
            if kept.values.codebook.size == MAX_CODEBOOK_SIZE:
                return self._or_zstd(self._with_positions(coding, kept.values), patterns)
            zeros = patterns.size - kept.gaps.size
            sparse_bits, dense_bits = _estimated_bits(kept.values, coding.bits, zeros)
            are_close = max(sparse_bits, dense_bits) < tuning.CLOSE_ESTIMATES * min(sparse_bits, dense_bits)
            try_both = (try_both and are_close) or self.level.exhaustive
            if dense_bits < sparse_bits and not try_both:
                return self._without_positions(_with_zero(patterns, kept.values))
        encoded = self._with_positions(coding, kept.values)
        if try_both:
            encoded = _smaller(encoded, self._without_positions(_with_zero(patterns, kept.values)))
        return self._or_zstd(encoded, patterns)

    def _columns_first(self, patterns: np.ndarray, matrix: Shape) -> EncodedTensor:
        """Encode the transposed matrix as `_rows_first` does."""
        patterns = _transposed(patterns, matrix)
        kept = _KeptElements.find(patterns, self.dtype, self.level)
        return replace(self._rows_first(patterns, kept, matrix[::-1]), columns_first=True)

    def _is_clearly_dense(self, kept: _KeptElements, size: int) -> bool:
        """Return whether an encoding with positions is clearly larger than one without."""
        if not isinstance(kept.values, IndexedValues) or kept.values.codebook.size == MAX_CODEBOOK_SIZE:
            return False  # free floats are worth positions, and a full codebook has no letter for zero
        position_bits = sparse_index.choose_gap_coding(kept.gaps).bits
        sparse_bits, dense_bits = _estimated_bits(kept.values, position_bits, size - kept.gaps.size)
        return dense_bits * tuning.CLOSE_ESTIMATES < sparse_bits

    def _all_values(self, patterns: np.ndarray) -> np.ndarray | IndexedValues:
        """Return all elements, or their codebook and codes."""
        return find_codebook(patterns, self.dtype, self.level) or patterns

    def _without_positions(self, all_values: np.ndarray | IndexedValues) -> EncodedTensor:
        return EncodedTensor(self.dtype, self.shape, None, self._smallest_values(all_values, None))

    def _with_positions(self, coding: PositionCoding, kept: np.ndarray | IndexedValues) -> EncodedTensor:
        index = coding.encode()
        if isinstance(kept, IndexedValues):
            ordered: np.ndarray | IndexedValues = IndexedValues(kept.codebook, coding.ordered(kept.codes))
        else:
            ordered = coding.ordered(kept)
        return EncodedTensor(self.dtype, self.shape, index, self._smallest_values(ordered, coding.follows()))

    def _smallest_values(self, elements: np.ndarray | IndexedValues, follows: np.ndarray | None) -> Values:
        if isinstance(elements, IndexedValues):
            return value_choice.smallest_shared(elements, self.dtype, self.level, follows)
        return value_choice.smallest_free(elements, self.dtype, self.level)

    def _or_zstd(self, encoded: EncodedTensor, patterns: np.ndarray) -> EncodedTensor:
        """Return a Zstandard frame of all elements if that is smaller than an encoded tensor, or the latter."""
        frame = Zstd.smaller(patterns, self.dtype, encoded.nbytes - 1, self.level)
        return encoded if frame is None else EncodedTensor(self.dtype, self.shape, None, frame)


def _smaller(first: EncodedTensor, second: EncodedTensor) -> EncodedTensor:
    return min(first, second, key=lambda encoded: encoded.nbytes)


def _transposed(patterns: np.ndarray, matrix: Shape) -> np.ndarray:
    return np.ascontiguousarray(patterns.reshape(matrix).T).reshape(-1)


def _band(matrix: np.ndarray) -> np.ndarray:
    """Return a part of a matrix, from its middle: whole rows, or a part of each row where rows are long."""
    rows, columns = matrix.shape
    height = min(rows, max(tuning.BAND_ROWS, tuning.BAND_ELEMENTS // columns))
    width = min(columns, tuning.BAND_ELEMENTS // height)
    top, left = (rows - height) // 2, (columns - width) // 2
    return np.ascontiguousarray(matrix[top : top + height, left : left + width])


def _estimated_bits(kept: IndexedValues, position_bits: float, zeros: int) -> tuple[float, float]:
    """Estimate the bits of positions and codes, and of codes among which zero is one."""
    counts = huffman.histogram(kept.codes, kept.codebook.size)
    dense_bits = huffman.estimated_bits(np.append(counts, zeros)) + 8 * kept.codebook.itemsize
    return position_bits + huffman.estimated_bits(counts), dense_bits


def _with_zero(patterns: np.ndarray, kept: np.ndarray | IndexedValues) -> np.ndarray | IndexedValues:
    """Return all elements; if the kept ones have codes, zero gets a code as well."""
    if not isinstance(kept, IndexedValues):
        return patterns
    size = kept.codebook.size
    codes = np.full(patterns.size, size, np.uint8 if size < 256 else np.uint16)
    codes[patterns != 0] = kept.codes
    return IndexedValues(np.append(kept.codebook, kept.codebook.dtype.type(0)), codes)
