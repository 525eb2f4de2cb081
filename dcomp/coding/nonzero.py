"""How many elements of a tensor are not zero, and how far apart, from its record (FORMAT.md, section 4).

Zeros stand in a record as gaps, as an element of the codebook, or as elements like all others; -0.0, which has a bit
pattern of its own, is zero too. Only the parts of a record that may hold zeros are decoded, and what is decoded is
looked at in chunks, so that counting takes no more memory than decoding.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dcomp.checkpoints import dtypes
from dcomp.coding import lockstep, sparse_index
from dcomp.coding.plain import Raw, Symbols, Zstd
from dcomp.coding.planes import Plane, Planes, has_exponent
from dcomp.coding.record import EncodedTensor, decode_tensors, matrix_of
from dcomp.coding.stream import Model, Stream
from dcomp.coding.values import Form, Shared

Mask = Callable[[np.ndarray], np.ndarray]
"""Tells of each of some elements whether it is not zero."""

CHUNK = 1 << 17
"""Elements that are looked at at a time."""

SIGN = 1
"""The last byte of -0.0 in planes: the sign stands in its last bit."""

MOST_COMPARED = 1 << 16
"""Elements up to which those of a record without a codebook are looked at for shared values."""


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
    needed = [_needed(encoded) for encoded in tensors]
    decoded = iter(lockstep.decode_streams([stream for streams in needed for stream in streams]))
    return [
        _of_record(encoded, iter([next(decoded) for _ in streams]))
        for encoded, streams in zip(tensors, needed, strict=True)
    ]


def _needed(encoded: EncodedTensor) -> list[Stream]:
    """The streams that tell where zeros are: the positions, or codes among which zero is one."""
    if encoded.index is not None:
        return encoded.index.streams
    if isinstance(encoded.values, Shared) and not codebook_mask(encoded.values, encoded.dtype).all():
        return [encoded.values.codes]
    return []


def _of_record(encoded: EncodedTensor, symbols: Symbols) -> NonZero:
    if encoded.index is None:
        return _of_dense(encoded, symbols)
    if not _all_kept(encoded.values, encoded.dtype):
        return of_array(decode_tensors([encoded])[0])
    kept_at, _ = encoded.positions(symbols)
    assert kept_at is not None  # there is an index
    if not encoded.columns_first and encoded.index.classes is None:
        return _of_positions(kept_at, encoded.size)
    is_kept = np.zeros(encoded.size, bool)
    for part in _chunks(kept_at):
        is_kept[part] = True
    return _counted(_in_rows(encoded, is_kept))


def _of_dense(encoded: EncodedTensor, symbols: Symbols) -> NonZero:
    """Count in a record where every element has a value."""
    if isinstance(encoded.values, Shared):
        of_codes = codebook_mask(encoded.values, encoded.dtype)
        if of_codes.all():
            return NonZero(encoded.size, 0)
        return _counted(_in_rows(encoded, next(symbols)), of_codes.take)
    elements, mask = _elements(encoded.values, encoded.dtype)
    if elements is None:
        return NonZero(encoded.size, 0)
    return _counted(_in_rows(encoded, elements), mask)


def _of_positions(kept_at: np.ndarray, elements: int) -> NonZero:
    """Count from the positions of what is not zero, ascending."""
    if kept_at.size == elements:
        return NonZero(elements, 0)
    widths, last = sparse_index.FixedWidths(), -1
    for part in _chunks(kept_at):
        widths.add(np.diff(part.astype(np.int64), prepend=last) - 1)
        last = int(part[-1])
    return NonZero(kept_at.size, widths.bits)


def _counted(chunks: Iterator[np.ndarray], mask: Mask = np.asarray) -> NonZero:
    """Count in elements that come chunk by chunk; a gap may begin in one chunk and end in another."""
    widths, last, seen, count = sparse_index.FixedWidths(), -1, 0, 0
    for part in chunks:
        found = np.flatnonzero(mask(part)) + seen
        widths.add(np.diff(found, prepend=last) - 1)
        last = int(found[-1]) if found.size else last
        seen, count = seen + part.size, count + found.size
    return NonZero(count, widths.bits if count < seen else 0)


def _chunks(elements: np.ndarray) -> Iterator[np.ndarray]:
    return (elements[begin : begin + CHUNK] for begin in range(0, elements.size, CHUNK))


def _in_rows(encoded: EncodedTensor, elements: np.ndarray) -> Iterator[np.ndarray]:
    """What a record holds of each element, shape (n,), in chunks in row-major order."""
    if not encoded.columns_first:
        yield from _chunks(elements)
        return
    matrix = elements.reshape(matrix_of(encoded.shape, columns_first=True)).T
    rows, columns = matrix.shape
    height = max(1, CHUNK // max(1, columns))
    for top in range(0, rows, height):
        band = matrix[top : top + height]
        for begin in range(0, columns, CHUNK):
            yield band[:, begin : begin + CHUNK].reshape(-1)


def distinct_values(encoded: EncodedTensor) -> int | None:
    """Count the different elements that are not zero; None of a record without a codebook that has very many."""
    values = encoded.values
    if isinstance(values, Shared):
        return int(codebook_mask(values, encoded.dtype).sum())
    if (encoded.size if encoded.index is None else encoded.index.kept) > MOST_COMPARED:
        return None
    patterns = values.patterns(iter(lockstep.decode_streams(values.streams)))
    return int(np.unique(patterns[dtypes.not_zero(patterns, encoded.dtype)]).size)


def codebook_mask(shared: Shared, dtype: np.dtype) -> np.ndarray:
    """Which elements of a codebook are not zero; bool, shape (k,)."""
    codebook = shared.codebook.patterns(iter(lockstep.decode_streams(shared.codebook.streams)))
    return dtypes.not_zero(codebook, dtype)


def _all_kept(values: Form, dtype: np.dtype) -> bool:
    """Whether no value is zero; where a codebook holds zero, one is taken to be."""
    if isinstance(values, Shared):
        return bool(codebook_mask(values, dtype).all())
    elements, mask = _elements(values, dtype)
    return elements is None or all(mask(part).all() for part in _chunks(elements))


def _elements(values: Raw | Zstd | Planes, dtype: np.dtype) -> tuple[np.ndarray | None, Mask]:
    """Values without a codebook, and what tells which are not zero; None if all are seen to be that."""
    if isinstance(values, Planes) and has_exponent(dtype):
        return _mask_of_planes(values), np.asarray
    return values.patterns(iter(lockstep.decode_streams(values.streams))), _mask_of(dtype)


def _mask_of(dtype: np.dtype) -> Mask:
    return lambda patterns: dtypes.not_zero(patterns, dtype)


def _mask_of_planes(values: Planes) -> np.ndarray | None:
    """Look at one plane after the other, while some element has been zero in all of them."""
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


def _add_above(mask: np.ndarray, plane: Plane, zero: int) -> None:
    """Set a mask where the byte of a plane is more than `zero`."""
    for marked, part in zip(_chunks(mask), _chunks(_bytes_of(plane)), strict=True):
        marked |= part > zero


def _bytes_of(plane: Plane) -> np.ndarray:
    return plane.patterns(iter(lockstep.decode_streams(plane.streams)))


def _lacks_zero(plane: Plane) -> bool:
    """Whether no letter that has a code stands for the byte 0, or for a pair that holds it."""
    return any(_letters(stream).all() for stream in plane.streams)


def _letters(stream: Stream) -> np.ndarray:
    """The letters that have a code; of a pair, the lower one."""
    letters = np.flatnonzero(stream.lengths.any(axis=0))
    if stream.model is Model.PAIRS:
        letters = np.minimum(letters % stream.alphabet, letters // stream.alphabet)
    return letters
