"""Record -> how many elements of a tensor are not zero, and how far apart they are (FORMAT.md, section 4).

A record holds zeros as gaps, as an entry of the codebook, or among the other values; -0.0 counts as zero. Only those
parts of a record are decoded that may hold zeros. Elements are counted in chunks, so that counting takes no more memory
than decoding.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dcomp.checkpoints import dtypes
from dcomp.coding import lockstep, tuning
from dcomp.coding.decoder import decode_tensors
from dcomp.coding.fixed_widths import FixedWidths
from dcomp.coding.planes import Planes, has_exponent
from dcomp.coding.record import EncodedTensor
from dcomp.coding.shared import Shared
from dcomp.coding.stream import Model, Stream
from dcomp.coding.values import Symbols, Values

MaskOf = Callable[[np.ndarray], np.ndarray]
"""A function from elements to their mask: True where an element is not zero."""


SIGN = 1
"""The last byte of -0.0 in planes: the sign stands in its last bit."""


@dataclass(frozen=True)
class NonZero:
    """The elements of a tensor that are not zero.

    Attributes:
        count: how many they are.
        gap_bits: bits of the gaps between them, row by row, in fields of the width that suits them best, fillers paid;
            0 if no element is zero, or all are.
    """

    count: int
    gap_bits: int


def of_array(array: np.ndarray) -> NonZero:
    """Count the elements of an array that are not zero."""
    return _counted(_chunks(dtypes.bit_patterns(array)), _mask_of(array.dtype))


def of_records(tensors: Sequence[EncodedTensor]) -> list[NonZero]:
    """Count the elements of encoded tensors that are not zero; their streams are decoded in lock step.

    Raises:
        ContainerError: damaged streams.
    """
    needed = [_streams_with_zeros(encoded) for encoded in tensors]
    decoded = iter(lockstep.decode_streams([stream for streams in needed for stream in streams]))
    return [
        _of_record(encoded, iter([next(decoded) for _ in streams]))
        for encoded, streams in zip(tensors, needed, strict=True)
    ]


def _streams_with_zeros(encoded: EncodedTensor) -> list[Stream]:
    """Return the streams that hold zeros: the positions, or the codes if zero has one."""
    if encoded.index is not None:
        return encoded.index.streams
    if isinstance(encoded.values, Shared) and not _codebook_mask(encoded.values, encoded.dtype).all():
        return [encoded.values.codes]
    return []


def _of_record(encoded: EncodedTensor, symbols: Symbols) -> NonZero:
    if encoded.index is None:
        return _of_dense(encoded, symbols)
    if not _all_kept(encoded.values, encoded.dtype):
        return of_array(decode_tensors([encoded])[0])
    kept_positions, _ = encoded.decode_positions(symbols)
    assert kept_positions is not None  # there is an index
    if not encoded.columns_first and encoded.index.classes is None:
        return _of_positions(kept_positions, encoded.size)
    is_kept = np.zeros(encoded.size, bool)
    for part in _chunks(kept_positions):
        is_kept[part] = True
    return _counted(_in_rows(encoded, is_kept))


def _of_dense(encoded: EncodedTensor, symbols: Symbols) -> NonZero:
    """Count in a record where every element has a value."""
    if isinstance(encoded.values, Shared):
        code_mask = _codebook_mask(encoded.values, encoded.dtype)
        if code_mask.all():
            return NonZero(encoded.size, 0)
        return _counted(_in_rows(encoded, next(symbols)), code_mask.take)
    elements, mask = _elements(encoded.values, encoded.dtype)
    if elements is None:
        return NonZero(encoded.size, 0)
    return _counted(_in_rows(encoded, elements), mask)


def _of_positions(kept_positions: np.ndarray, elements: int) -> NonZero:
    """Count from the positions of what is not zero, ascending."""
    if kept_positions.size == elements:
        return NonZero(elements, 0)
    widths, last = FixedWidths(), -1
    for part in _chunks(kept_positions):
        widths.add(np.diff(part.astype(np.int64), prepend=last) - 1)
        last = int(part[-1])
    return NonZero(kept_positions.size, widths.bits)


def _counted(chunks: Iterator[np.ndarray], mask: MaskOf = np.asarray) -> NonZero:
    """Count elements that come chunk by chunk; a gap may begin in one chunk and end in another."""
    widths, last, seen, count = FixedWidths(), -1, 0, 0
    for part in chunks:
        positions = np.flatnonzero(mask(part)) + seen
        widths.add(np.diff(positions, prepend=last) - 1)
        last = int(positions[-1]) if positions.size else last
        seen, count = seen + part.size, count + positions.size
    return NonZero(count, widths.bits if count < seen else 0)


def _chunks(elements: np.ndarray) -> Iterator[np.ndarray]:
    return (elements[begin : begin + tuning.NONZERO_CHUNK] for begin in range(0, elements.size, tuning.NONZERO_CHUNK))


def _in_rows(encoded: EncodedTensor, elements: np.ndarray) -> Iterator[np.ndarray]:
    """Yield what a record holds of each element, shape (n,), in chunks in row-major order."""
    if not encoded.columns_first:
        yield from _chunks(elements)
        return
    matrix = elements.reshape(encoded.matrix).T
    rows, columns = matrix.shape
    height = max(1, tuning.NONZERO_CHUNK // max(1, columns))
    for top in range(0, rows, height):
        band = matrix[top : top + height]
        for begin in range(0, columns, tuning.NONZERO_CHUNK):
            yield band[:, begin : begin + tuning.NONZERO_CHUNK].reshape(-1)


def distinct_values(encoded: EncodedTensor) -> int | None:
    """Count the different elements that are not zero; return None for a large record without a codebook."""
    values = encoded.values
    if isinstance(values, Shared):
        return int(_codebook_mask(values, encoded.dtype).sum())
    if encoded.kept > tuning.MAX_COMPARED:
        return None
    patterns = values.patterns(iter(lockstep.decode_streams(values.streams)))
    return int(np.unique(patterns[dtypes.not_zero(patterns, encoded.dtype)]).size)


def _codebook_mask(shared: Shared, dtype: np.dtype) -> np.ndarray:
    """Return which elements of a codebook are not zero; bool, shape (k,)."""
    return dtypes.not_zero(shared.codebook_patterns, dtype)


def _all_kept(values: Values, dtype: np.dtype) -> bool:
    """Return whether no value is zero; if the codebook has a zero, some value is assumed to use it."""
    if isinstance(values, Shared):
        return bool(_codebook_mask(values, dtype).all())
    elements, mask = _elements(values, dtype)
    return elements is None or all(mask(part).all() for part in _chunks(elements))


def _elements(values: Values, dtype: np.dtype) -> tuple[np.ndarray | None, MaskOf]:
    """Return values without a codebook, and their mask; None if their form shows that none is zero."""
    if isinstance(values, Planes) and has_exponent(dtype):
        return _mask_of_planes(values), np.asarray
    return values.patterns(iter(lockstep.decode_streams(values.streams))), _mask_of(dtype)


def _mask_of(dtype: np.dtype) -> MaskOf:
    return lambda patterns: dtypes.not_zero(patterns, dtype)


def _mask_of_planes(values: Planes) -> np.ndarray | None:
    """Return which elements are not zero, plane by plane; None if their code lengths show that all are."""
    mask = np.zeros(values.count, bool)
    *before, last = values.planes
    for plane in before:
        if _lacks_zero(plane):
            return None
        _add_above(mask, plane, 0)
        if mask.all():
            return None
    _add_above(mask, last, SIGN)
    return mask


def _add_above(mask: np.ndarray, plane: Values, zero: int) -> None:
    """Set a mask where the byte of a plane is more than `zero`."""
    for marked, part in zip(_chunks(mask), _chunks(_bytes_of(plane)), strict=True):
        marked |= part > zero


def _bytes_of(plane: Values) -> np.ndarray:
    return plane.patterns(iter(lockstep.decode_streams(plane.streams)))


def _lacks_zero(plane: Values) -> bool:
    """Return whether no letter that has a code stands for the byte 0, or for a pair that holds it."""
    return any(_letters(stream).all() for stream in plane.streams)


def _letters(stream: Stream) -> np.ndarray:
    """Return the letters that have a code; of a pair, the lower one."""
    letters = np.flatnonzero(stream.lengths.any(axis=0))
    if stream.model is Model.PAIRS:
        letters = np.minimum(letters % stream.alphabet, letters // stream.alphabet)
    return letters
