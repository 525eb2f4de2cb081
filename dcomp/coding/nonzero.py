"""How many elements of a tensor are not zero, and how far apart, from its record (FORMAT.md, section 4).

Zeros stand in a record as gaps, as an element of the codebook, or as elements like all others; -0.0, which has a bit
pattern of its own, is zero too. Only the parts of a record that may hold zeros are decoded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dcomp import dtypes
from dcomp.coding import lockstep, sparse_index, tensor
from dcomp.coding.lookup import lookup
from dcomp.coding.plain import Raw, Symbols, Zstd
from dcomp.coding.planes import Plane, Planes, has_exponent
from dcomp.coding.stream import Model, Stream
from dcomp.coding.tensor import EncodedTensor
from dcomp.coding.values import Form, Shared

SIGN = 1
"""The last byte of -0.0 in planes: the sign stands in its last bit."""


@dataclass(frozen=True)
class NonZero:
    """The elements of a tensor that are not zero.

    Attributes:
        count: how many they are.
        gap_bits: bits of the gaps between them, row by row, in fields of the width that suits them best, fillers paid;
            0 if no element is zero.
    """

    count: int
    gap_bits: int


def of_array(array: np.ndarray) -> NonZero:
    """Count the elements of an array that are not zero."""
    return _of_mask(dtypes.not_zero(dtypes.bit_patterns(array), array.dtype))


def of_records(tensors: Sequence[EncodedTensor]) -> list[NonZero]:
    """Count the elements of encoded tensors that are not zero; their streams are decoded in lock step.

    Raises:
        ContainerError: damaged streams.
    """
    needed = [_needed(encoded) for encoded in tensors]
    decoded = iter(lockstep.decode([stream for streams in needed for stream in streams]))
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
        return of_array(tensor.decode([encoded])[0])
    kept_at, _ = encoded.positions(symbols)
    assert kept_at is not None  # there is an index
    if kept_at.size == encoded.size:
        return NonZero(encoded.size, 0)
    found = tensor.in_rows(encoded, kept_at)
    if encoded.columns_first or encoded.index.classes is not None:
        found.sort()
    return NonZero(found.size, sparse_index.fixed_width_bits(sparse_index.gaps_of(found)))


def _of_dense(encoded: EncodedTensor, symbols: Symbols) -> NonZero:
    """Count in a record where every element has a value."""
    if isinstance(encoded.values, Shared):
        of_codes = codebook_mask(encoded.values, encoded.dtype)
        mask = None if of_codes.all() else lookup(of_codes, next(symbols))
    else:
        mask = _mask(encoded.values, encoded.dtype)
    if mask is None:
        return NonZero(encoded.size, 0)
    if encoded.columns_first:
        mask = np.ascontiguousarray(mask.reshape(tensor.matrix_of(encoded.shape, columns_first=True)).T).reshape(-1)
    return _of_mask(mask)


def _of_mask(mask: np.ndarray) -> NonZero:
    if mask.all():
        return NonZero(mask.size, 0)
    gaps, _ = sparse_index.scan(mask.view(np.uint8))
    return NonZero(gaps.size, sparse_index.fixed_width_bits(gaps))


def codebook_mask(shared: Shared, dtype: np.dtype) -> np.ndarray:
    """Which elements of a codebook are not zero; bool, shape (k,)."""
    codebook = shared.codebook.patterns(iter(lockstep.decode(shared.codebook.streams)))
    return dtypes.not_zero(codebook, dtype)


def _all_kept(values: Form, dtype: np.dtype) -> bool:
    """Whether no value is zero; where a codebook holds zero, one is taken to be."""
    if isinstance(values, Shared):
        return bool(codebook_mask(values, dtype).all())
    mask = _mask(values, dtype)
    return mask is None or bool(mask.all())


def _mask(values: Raw | Zstd | Planes, dtype: np.dtype) -> np.ndarray | None:
    """Which values without a codebook are not zero; None if that is seen to be all of them."""
    if isinstance(values, Planes) and has_exponent(dtype):
        return _mask_of_planes(values)
    patterns = values.patterns(iter(lockstep.decode(values.streams)))
    return dtypes.not_zero(patterns, dtype)


def _mask_of_planes(values: Planes) -> np.ndarray | None:
    """Look at one plane after the other, while some element has been zero in all of them."""
    mask = np.zeros(values.count, bool)
    *before, last = values.planes
    for plane in before:
        if _lacks_zero(plane):
            return None
        mask |= _bytes_of(plane) != 0
        if mask.all():
            return None
    mask |= _bytes_of(last) > SIGN
    return mask


def _bytes_of(plane: Plane) -> np.ndarray:
    return plane.patterns(iter(lockstep.decode(plane.streams)))


def _lacks_zero(plane: Plane) -> bool:
    """Whether no letter that has a code stands for the byte 0, or for a pair that holds it."""
    return any(_letters(stream).all() for stream in plane.streams)


def _letters(stream: Stream) -> np.ndarray:
    """The letters that have a code; of a pair, the lower one."""
    letters = np.flatnonzero(stream.lengths.any(axis=0))
    if stream.model is Model.PAIRS:
        letters = np.minimum(letters % stream.alphabet, letters // stream.alphabet)
    return letters
