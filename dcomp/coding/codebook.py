"""Patterns -> codebook and codes: which values are shared (FORMAT.md, section 4.2)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dcomp.coding import huffman, tuning
from dcomp.coding.level import Level
from dcomp.coding.limits import MAX_CODEBOOK_SIZE
from dcomp.coding.lookup import lookup
from dcomp.coding.planes import has_exponent
from dcomp.coding.sample import sampled

HASH_MULTIPLIERS = (
    0x9E3779B97F4A7C15,
    0xC2B2AE3D27D4EB4F,
    0xFF51AFD7ED558CCD,
    0xC4CEB9FE1A85EC53,
    0xD6E8FEB86659FD93,
)
"""Odd numbers with well-spread bits; the first one that keeps a codebook's hashes apart is used."""


@dataclass(frozen=True)
class IndexedValues:
    """Patterns as a codebook and codes.

    Attributes:
        codebook: the distinct patterns, in any order, shape (k,).
        codes: for each value its index in the codebook, shape (m,).
    """

    codebook: np.ndarray
    codes: np.ndarray


def find_codebook(patterns: np.ndarray, dtype: np.dtype, level: Level) -> IndexedValues | None:
    """Return the distinct patterns and the code of each value; None if there are too many to share.

    A sample usually has all values of the codebook. Values that it lacks are added afterwards.

    Args:
        patterns: shape (m,).
        dtype: of the elements.
        level: how hard to try.
    """
    max_size = min(MAX_CODEBOOK_SIZE, patterns.size // 2)
    if max_size == 0:
        return None
    if patterns.itemsize <= 2:
        return _counted(patterns, dtype, max_size)
    if patterns.size > 4 * tuning.FIRST_SAMPLE and not level.exhaustive:
        few = np.unique(sampled(patterns)[:: tuning.SAMPLE_SIZE // tuning.FIRST_SAMPLE])
        if few.size > tuning.MOSTLY_DISTINCT * tuning.FIRST_SAMPLE:
            return None
    codebook = np.unique(sampled(patterns))
    while codebook.size <= max_size:
        codes, missed = _looked_up(patterns, codebook)
        if missed.size == 0:
            return IndexedValues(codebook, codes)
        codebook = np.union1d(codebook, missed)
    return None


def _counted(patterns: np.ndarray, dtype: np.dtype, max_size: int) -> IndexedValues | None:
    """Index patterns of 8 or 16 bits."""
    step = patterns.size // tuning.HALF_SIZE_SAMPLE | 1
    alphabet = 1 << 8 * patterns.itemsize
    if step > 1:
        sample_counts = huffman.histogram(patterns[::step], alphabet)
        if _planes_suffice(sample_counts, dtype, tuning.UNSEEN_PATTERN_BITS):
            return None
    counts = huffman.histogram(patterns, alphabet)
    codebook = np.flatnonzero(counts).astype(patterns.dtype)
    if codebook.size > max_size or _planes_suffice(counts, dtype, tuning.TABLE_LETTER_BITS + 16):
        return None
    code_of = np.zeros(counts.size, np.uint16)
    code_of[codebook] = np.arange(codebook.size)
    return IndexedValues(codebook, lookup(code_of, patterns))


def _planes_suffice(counts: np.ndarray, dtype: np.dtype, pattern_bits: float) -> bool:
    """Return whether 16-bit patterns with these counts are about as small in planes, which are faster.

    Args:
        counts: how often each pattern occurs.
        dtype: of the elements.
        pattern_bits: what each pattern in use costs on top of the entropy.
    """
    if counts.size < 1 << 16:
        return False
    planes = counts.reshape(2, -1).T if has_exponent(dtype) else counts  # of a float, the sign is the last bit
    turned = planes.reshape(256, 256)
    in_planes = huffman.entropy_bits(turned.sum(axis=1)) + huffman.entropy_bits(turned.sum(axis=0))
    shared = huffman.entropy_bits(counts) + pattern_bits * np.count_nonzero(counts)
    return bool(shared > tuning.PLANES_GAIN * in_planes)


def _looked_up(patterns: np.ndarray, codebook: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the code of each pattern, and the patterns that the codebook, ascending, lacks."""
    codes = np.empty(patterns.size, np.uint8 if codebook.size <= 256 else np.uint16)
    find = _hashed(codebook) or (lambda part: np.minimum(np.searchsorted(codebook, part), codebook.size - 1))
    missed = []
    for begin in range(0, patterns.size, tuning.LOOKUP_CHUNK):
        part = patterns[begin : begin + tuning.LOOKUP_CHUNK]
        part_codes = find(part)
        is_missed = codebook.take(part_codes) != part
        if is_missed.any():
            missed.append(np.unique(part[is_missed]))
            if codebook.size + missed[-1].size > MAX_CODEBOOK_SIZE:
                return codes, missed[-1]
        codes[begin : begin + part.size] = part_codes
    return codes, np.concatenate([codebook[:0], *missed])


def _hashed(codebook: np.ndarray) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return a function from the codebook's patterns to codes; None if hashes collide. Other patterns get any code."""
    if codebook.size > tuning.HASHED_CODEBOOK:
        return None
    bits = 16 if codebook.size <= 256 else 20
    word = codebook.dtype.type
    shift = word(8 * codebook.itemsize - bits)
    for multiplier in HASH_MULTIPLIERS:
        factor = word(multiplier & (1 << 8 * codebook.itemsize) - 1)
        hashes = codebook * factor >> shift
        if np.unique(hashes).size == codebook.size:
            code_of = np.zeros(1 << bits, np.uint16)
            code_of[hashes] = np.arange(codebook.size)
            return lambda part: code_of.take((part * factor >> shift).astype(np.intp))
    return None
