"""Positions of kept elements <-> gaps over a small alphabet (paper, sections 2 and 4; FORMAT.md, section 4.1).

*Positions* are ascending indices into the flattened tensor, shape (kept,), int64. A *gap* is the number of
zeros before a kept element. The last letter of the alphabet, the *filler*, bridges as many zeros as its number
and keeps nothing, so that a gap of any length can be written.
"""

from dataclasses import dataclass

import numpy as np

from dcomp.coding import huffman, prefix_code
from dcomp.coding.huffman import Stream
from dcomp.coding.limits import MAX_GAP_WIDTH
from dcomp.coding.wire import Cursor, varint
from dcomp.errors import ContainerError

CODE_LENGTH_BITS = 2
"""About what the length of a letter's code takes in the file; it decides which widths are looked at closely."""

WIDTHS_TRIED = 3
"""Widths that look best by estimate, of which the best is found by making their codes."""


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
        # "Fillers and kept elements must not stand for more than n elements."
        fillers = cursor.varint((elements - kept) // ((1 << width) - 1), "fillers")
        return cls(kept, width, fillers, Stream.parse(cursor, kept + fillers, 1 << width))


@dataclass(frozen=True)
class GapPlan:
    """A width for a tensor's gaps, how often each letter occurs then, the code's lengths, and the bits of it all."""

    width: int
    counts: np.ndarray
    lengths: np.ndarray
    bits: int

    @classmethod
    def make(cls, width: int, counts: np.ndarray) -> "GapPlan":
        """Find the code for letters that occur so often."""
        lengths = huffman.code_lengths(counts)
        table_bits = 8 * len(prefix_code.write_lengths(lengths))
        return cls(width, counts, lengths, int(counts @ lengths.astype(np.int64)) + table_bits)


def plan(gaps: np.ndarray) -> GapPlan:
    """The width at which the gaps, shape (kept,), come out smallest; from their histogram alone."""
    lengths, occurrences = np.unique(gaps, return_counts=True)
    widest = min(MAX_GAP_WIDTH, int(lengths[-1] + 1).bit_length())
    counts_at = {width: letter_counts(lengths, occurrences, width) for width in range(1, widest + 1)}
    promising = sorted(counts_at, key=lambda width: _estimated_bits(counts_at[width]))[:WIDTHS_TRIED]
    return min((GapPlan.make(width, counts_at[width]) for width in promising), key=lambda made: made.bits)


def letter_counts(gaps: np.ndarray, occurrences: np.ndarray, width: int) -> np.ndarray:
    """How often each letter of 2^width occurs if each of `gaps` does so often."""
    filler = (1 << width) - 1
    counts = np.bincount(gaps % filler, weights=occurrences, minlength=filler + 1).astype(np.int64)
    counts[filler] = (gaps // filler * occurrences).sum()
    return counts


def _estimated_bits(counts: np.ndarray) -> float:
    """Entropy, but no letter takes less than a bit, and each takes a code length."""
    present = counts[counts > 0]
    ideal = np.maximum(np.log2(present.sum() / present), 1)
    return float(present @ ideal) + CODE_LENGTH_BITS * present.size


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
    stream = huffman.encode(symbols, planned.lengths)
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
        ends = np.cumsum(steps, out=steps)[is_kept]
        # "The symbols that are not fillers must number kept, and the last symbol must not be a filler."
        if ends.size != index.kept or not is_kept[-1]:
            raise ContainerError(f"{ends.size} kept elements where {index.kept} were declared, or a filler at the end")
    else:
        steps += 1
        ends = np.cumsum(steps, out=steps)
        if np.any(symbols == filler):
            raise ContainerError("fillers where none were declared")
    # "All positions must lie below n."
    if ends[-1] > elements:
        raise ContainerError(f"position {ends[-1] - 1} in a tensor of {elements} elements")
    ends -= 1
    return ends
