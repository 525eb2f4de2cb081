"""Positions of kept elements <-> gaps over a small alphabet (paper, sections 2 and 4; FORMAT.md, section 4.1).

*Positions* are ascending indices into the elements of a tensor, or of a cell of it, shape (kept,). A *gap* is the
number of zeros before a kept element. The last letter of the alphabet, the *filler*, bridges as many zeros as its
number and keeps nothing, so that a gap of any length can be written.
"""

from dataclasses import dataclass

import numpy as np

from dcomp.coding import huffman, prefix_code
from dcomp.coding.huffman import Stream
from dcomp.coding.limits import MAX_GAP_WIDTH
from dcomp.coding.wire import Cursor, varint
from dcomp.errors import ContainerError

WIDTHS_TRIED = 3
"""Widths that look best by estimate, of which the best is found by making their codes."""

FILLER_COST = 0.25
"""Bits that a filler should save, because it takes time."""

MANY_GAPS = 1 << 14
"""Gaps from which on estimates are good enough; fewer are planned by making their codes."""

CHUNK = 1 << 17
"""Elements that are looked at at a time."""

SHORT_HISTOGRAM = 1 << 16
"""Gaps up to here, or up to a few times their number, are counted rather than sorted."""


@dataclass(frozen=True)
class GapIndex:
    """Coded positions.

    Attributes:
        kept: number of positions.
        width: gaps are letters of this many bits, before Huffman coding; 0 if nothing is kept.
        fillers: number of fillers among the gaps.
        gaps: kept + fillers symbols; None if nothing is kept.
    """

    kept: int
    width: int = 0
    fillers: int = 0
    gaps: Stream | None = None

    def to_bytes(self) -> bytes:
        """The positions as FORMAT.md, section 4.1, lays them out."""
        if self.gaps is None:
            return varint(0)
        return varint(self.kept) + bytes([self.width]) + varint(self.fillers) + self.gaps.to_bytes()

    @classmethod
    def parse(cls, cursor: Cursor, elements: int) -> "GapIndex":
        """Read the positions of kept elements among so many.

        Raises:
            ContainerError: they break the format.
        """
        kept = cursor.varint(elements, "kept")
        if kept == 0:
            return cls(0)
        width = cursor.byte()
        if not 1 <= width <= MAX_GAP_WIDTH:
            raise ContainerError(f"{cursor.what}: gaps of {width} bits")
        # "Fillers and kept elements must not stand for more than n elements."
        fillers = cursor.varint((elements - kept) // ((1 << width) - 1), "fillers")
        return cls(kept, width, fillers, Stream.parse(cursor, kept + fillers, 1 << width))


@dataclass(frozen=True)
class GapPlan:
    """A width for gaps, how often each letter occurs then, and about how many bits they take with their table."""

    width: int
    counts: np.ndarray
    bits: float

    @property
    def fillers(self) -> int:
        """How often the filler occurs."""
        return int(self.counts[-1])


def plan(gaps: np.ndarray) -> GapPlan:
    """The width at which the gaps, shape (kept,), kept > 0, come out smallest; from their histogram alone."""
    lengths, occurrences = occurrences_of(gaps)
    widest = min(MAX_GAP_WIDTH, int(lengths[-1] + 1).bit_length())
    counts_at = {width: letter_counts(lengths, occurrences, width) for width in range(1, widest + 1)}
    useful = {width: counts for width, counts in counts_at.items() if counts[-1] <= gaps.size or width == widest}
    plans = [GapPlan(width, counts, huffman.estimated_bits(counts)) for width, counts in useful.items()]
    if gaps.size >= MANY_GAPS:
        return min(plans, key=lambda made: made.bits + FILLER_COST * made.fillers)
    promising = sorted(plans, key=lambda made: made.bits)[:WIDTHS_TRIED]
    return min((_exact(made) for made in promising), key=lambda made: made.bits)


def occurrences_of(gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different gaps, ascending, and how often each occurs."""
    longest = int(gaps.max())
    if longest > 4 * gaps.size + SHORT_HISTOGRAM:
        return np.unique(gaps, return_counts=True)
    counts = huffman.histogram(gaps, longest + 1)
    present = np.flatnonzero(counts)
    return present, counts[present]


def letter_counts(gaps: np.ndarray, occurrences: np.ndarray, width: int) -> np.ndarray:
    """How often each letter of 2^width occurs if each of `gaps` does so often."""
    filler = (1 << width) - 1
    counts = np.bincount(gaps % filler, weights=occurrences, minlength=filler + 1).astype(np.int64)
    counts[filler] = (gaps // filler * occurrences).sum()
    return counts


def _exact(planned: GapPlan) -> GapPlan:
    """A plan with the bits of a plain code."""
    lengths = huffman.code_lengths(planned.counts)[None]
    table = 8 * len(prefix_code.write_lengths(lengths))
    return GapPlan(planned.width, planned.counts, huffman.coded_bits(planned.counts) + table)


def gaps_of(positions: np.ndarray) -> np.ndarray:
    """Zeros before each position, in their dtype; shape (kept,)."""
    gaps = np.empty_like(positions)
    gaps[:1] = positions[:1]
    np.subtract(positions[1:], positions[:-1], out=gaps[1:])
    gaps[1:] -= positions.dtype.type(1)
    return gaps


def positions_of(gaps: np.ndarray) -> np.ndarray:
    """The positions that have so many zeros before each, in the dtype of the gaps; shape (kept,)."""
    positions = np.cumsum(gaps, dtype=gaps.dtype)
    positions += np.arange(gaps.size, dtype=gaps.dtype)
    return positions


def scan(patterns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The gaps and the patterns of the elements that are not zero, each of shape (kept,).

    Gaps are uint32, or int64 where positions may need it. The elements are looked at in chunks, so that their positions never leave the second cache.

    Args:
        patterns: shape (n,).
    """
    wide = np.dtype(np.uint32 if patterns.size < 1 << 32 else np.int64)
    gaps, kept = [np.zeros(0, wide)], [patterns[:0]]
    last = -1
    for begin in range(0, patterns.size, CHUNK):
        part = patterns[begin : begin + CHUNK]
        found = np.flatnonzero(part != 0)
        if found.size:
            own = np.empty(found.size, wide)
            own[0] = begin + int(found[0]) - last - 1
            np.subtract(found[1:], found[:-1], out=own[1:], casting="unsafe")
            own[1:] -= own.dtype.type(1)
            last = begin + int(found[-1])
            gaps.append(own)
            kept.append(part[found])
    return np.concatenate(gaps), np.concatenate(kept)


def encode(gaps: np.ndarray, planned: GapPlan) -> GapIndex:
    """Code gaps, shape (kept,), kept > 0, at the width planned."""
    filler = (1 << planned.width) - 1
    letter = np.dtype(np.uint8 if planned.width <= 8 else np.uint16)
    if planned.fillers == 0:
        symbols = gaps.astype(letter)
    else:
        long = np.flatnonzero(gaps >= filler)
        runs, rest = np.divmod(gaps[long], gaps.dtype.type(filler))
        letters = gaps.astype(letter)
        letters[long] = rest
        symbols = np.insert(letters, np.repeat(long, runs), filler)
    return GapIndex(gaps.size, planned.width, planned.fillers, huffman.encode(symbols, 1 << planned.width))


def decode(index: GapIndex, symbols: np.ndarray, elements: int) -> np.ndarray:
    """The positions, ascending and below `elements`, from the decoded symbols of the gaps; int64, shape (kept,).

    Raises:
        ContainerError: the symbols do not fit the counts, or lead beyond the elements.
    """
    filler = (1 << index.width) - 1
    is_kept = symbols != filler
    # "The symbols that are not fillers must number kept, and the last symbol must not be a filler."
    if np.count_nonzero(is_kept) != index.kept or not is_kept[-1]:
        raise ContainerError(f"{index.kept} kept elements were declared, and others found, or a filler at the end")
    # a filler stands for as many zeros as its number, another letter for its zeros and what is kept
    ends = np.cumsum(symbols + is_kept, dtype=np.int64)
    # "All positions must lie below n."
    if ends[-1] > elements:
        raise ContainerError(f"position {ends[-1] - 1} in a tensor of {elements} elements")
    ends -= 1
    return ends[is_kept] if index.fillers else ends
