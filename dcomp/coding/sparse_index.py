"""Positions of kept elements <-> gaps over a small alphabet (paper, sections 2 and 4; FORMAT.md, section 4.1).

*Positions* are ascending indices into the flattened tensor, shape (kept,), int64. A *gap* is the number of
zeros before a kept element. The last letter of the alphabet, the *filler*, bridges as many zeros as its number
and keeps nothing, so that a gap of any length can be written.
"""

from dataclasses import dataclass

import numpy as np

from dcomp.coding import huffman
from dcomp.coding.huffman import Stream
from dcomp.coding.limits import MAX_GAP_WIDTH
from dcomp.coding.wire import Cursor, varint
from dcomp.errors import ContainerError

WIDEST_TRIED = 12
"""The encoder tries alphabets of up to 2^12 letters: beyond, the code lengths outweigh the fillers."""

TABLE_BITS_PER_LETTER = 2
"""About what a letter's code length takes; only the choice of the width rests on it."""


@dataclass(frozen=True)
class SparseIndex:
    """The coded positions of a tensor.

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
    def parse(cls, cursor: Cursor, elements: int) -> "SparseIndex":
        """Read the positions of a tensor of so many elements.

        Raises:
            ContainerError: they break the format.
        """
        kept = cursor.varint(elements, "kept")
        if kept == 0:
            return cls(0)
        width = cursor.byte()
        if not 1 <= width <= MAX_GAP_WIDTH:
            raise ContainerError(f"{cursor.what}: gaps of {width} bits")
        fillers = cursor.varint(elements, "fillers")
        return cls(kept, width, fillers, Stream.parse(cursor, kept + fillers, 1 << width))


@dataclass(frozen=True)
class GapPlan:
    """A width for a tensor's gaps, how often each letter would occur, and roughly how many bits that takes."""

    width: int
    counts: np.ndarray
    bits: float


def plan(gaps: np.ndarray) -> GapPlan:
    """The width at which the gaps, shape (kept,), come out smallest; from their histogram alone."""
    lengths, occurrences = np.unique(gaps, return_counts=True)
    widest = min(WIDEST_TRIED, int(lengths[-1] + 1).bit_length())
    return min((_plan(lengths, occurrences, width) for width in range(1, widest + 1)), key=lambda plan: plan.bits)


def _plan(lengths: np.ndarray, occurrences: np.ndarray, width: int) -> GapPlan:
    filler = (1 << width) - 1
    counts = np.bincount(lengths % filler, weights=occurrences, minlength=filler + 1).astype(np.int64)
    counts[filler] = (lengths // filler * occurrences).sum()
    present = counts[counts > 0]
    entropy = float((present * np.log2(present.sum() / present)).sum())
    return GapPlan(width, counts, max(entropy, present.sum()) + TABLE_BITS_PER_LETTER * present.size)


def gaps_of(positions: np.ndarray) -> np.ndarray:
    """Zeros before each position, shape (kept,)."""
    return np.diff(positions, prepend=-1) - 1


def encode(gaps: np.ndarray, planned: GapPlan) -> SparseIndex:
    """Code gaps, shape (kept,), kept > 0, at the width planned."""
    filler = (1 << planned.width) - 1
    fillers = int(planned.counts[filler])
    if fillers == 0:
        symbols = gaps
    else:
        runs, letters = np.divmod(gaps, filler)
        symbols = np.full(gaps.size + fillers, filler)
        symbols[np.cumsum(runs + 1) - 1] = letters
    stream = huffman.encode(symbols, huffman.code_lengths(planned.counts))
    return SparseIndex(gaps.size, planned.width, fillers, stream)


def decode(index: SparseIndex, symbols: np.ndarray, elements: int) -> np.ndarray:
    """The positions, ascending and below `elements`, from the decoded symbols of the gaps.

    Raises:
        ContainerError: the symbols do not fit the counts, or lead beyond the tensor.
    """
    filler = (1 << index.width) - 1
    steps = symbols.astype(np.int64)
    if index.fillers:
        is_kept = symbols != filler
        steps += is_kept
        ends = np.cumsum(steps)[is_kept]
        # "The symbols that are not fillers must number kept, and the last symbol must not be a filler."
        if ends.size != index.kept or not is_kept[-1]:
            raise ContainerError(f"{ends.size} kept elements where {index.kept} were declared, or a filler at the end")
    else:
        steps += 1
        ends = np.cumsum(steps)
        if np.any(symbols == filler):
            raise ContainerError("fillers where none were declared")
    # "All positions must lie below n."
    if ends[-1] > elements:
        raise ContainerError(f"position {ends[-1] - 1} in a tensor of {elements} elements")
    ends -= 1
    return ends
