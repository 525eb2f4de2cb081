"""Positions of kept elements <-> gaps over a small alphabet (paper, sections 2 and 4; FORMAT.md, section 4.1).

*Positions* are ascending indices into the elements of a tensor, or of a cell of it, shape (kept,). A *gap* is the
number of zeros before a kept element. The last letter of the alphabet, the *filler*, bridges as many zeros as its
number and keeps nothing, so that a gap of any length can be written.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dcomp.coding import huffman, prefix_code, tuning
from dcomp.coding.limits import MAX_GAP_WIDTH, MAX_GOLOMB_DIVISOR
from dcomp.coding.stream import Stream
from dcomp.coding.wire import Cursor, varint
from dcomp.errors import ContainerError


@dataclass(frozen=True)
class Letters:
    """An alphabet of gaps: 2^width letters, whose code is in the stream, or the letters of a Golomb code.

    Attributes:
        width: bits of a letter; 0 for a Golomb code.
        divisor: of the Golomb code, else 0.
    """

    width: int
    divisor: int = 0

    @cached_property
    def lengths(self) -> np.ndarray | None:
        """The Golomb code's lengths."""
        return prefix_code.golomb_lengths(self.divisor) if self.divisor else None

    @property
    def filler(self) -> int:
        """The last letter, and the zeros that it stands for."""
        return (1 << self.width) - 1 if self.lengths is None else self.lengths.size - 1


@dataclass(frozen=True)
class GapIndex:
    """Coded positions.

    Attributes:
        kept: number of positions.
        letters: the alphabet of the gaps; None if nothing is kept.
        fillers: number of fillers among the gaps.
        gaps: kept + fillers symbols; None if nothing is kept.
    """

    kept: int
    letters: Letters | None = None
    fillers: int = 0
    gaps: Stream | None = None

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return len(self._head) + (0 if self.gaps is None else self.gaps.nbytes)

    def to_bytes(self) -> bytes:
        """Return the positions as FORMAT.md, section 4.1, specifies them."""
        return self._head + (b"" if self.gaps is None else self.gaps.to_bytes())

    @property
    def _head(self) -> bytes:
        """The fields before the gaps."""
        if self.letters is None:
            return varint(0)
        alphabet = bytes([self.letters.width]) + (varint(self.letters.divisor) if self.letters.divisor else b"")
        return varint(self.kept) + alphabet + varint(self.fillers)

    @classmethod
    def parse(cls, cursor: Cursor, elements: int) -> "GapIndex":
        """Read the positions of kept elements among `elements` elements.

        Raises:
            ContainerError: they break the format.
        """
        kept = cursor.varint(elements, "kept")
        if kept == 0:
            return cls(0)
        width = cursor.byte()
        if width > MAX_GAP_WIDTH:
            raise ContainerError(f"{cursor.label}: gaps of {width} bits")
        divisor = 0 if width else cursor.varint(MAX_GOLOMB_DIVISOR, "Golomb divisor")
        if not width and not divisor:
            raise ContainerError(f"{cursor.label}: a Golomb code of divisor 0")
        letters = Letters(width, divisor)
        # "Then kept must be at most e, and kept + fillers x F too."
        fillers = cursor.varint((elements - kept) // letters.filler, "fillers")
        gaps = Stream.parse(cursor, kept + fillers, letters.filler + 1, implicit_lengths=letters.lengths)
        return cls(kept, letters, fillers, gaps)


@dataclass(frozen=True)
class GapCoding:
    """A way to code gaps.

    Attributes:
        letters: the alphabet.
        counts: how often each letter occurs, shape (filler + 1,).
        bits: about what the gaps take with their table.
    """

    letters: Letters
    counts: np.ndarray
    bits: float

    @property
    def fillers(self) -> int:
        """How often the filler occurs."""
        return int(self.counts[-1])


def choose_gap_coding(gaps: np.ndarray) -> GapCoding:
    """Choose the alphabet in which gaps, shape (kept,), kept > 0, take the fewest bits; from their histogram alone."""
    lengths, occurrences = occurrences_of(gaps)
    widest = min(MAX_GAP_WIDTH, int(lengths[-1] + 1).bit_length())
    counts_at = {width: letter_counts(lengths, occurrences, (1 << width) - 1) for width in range(1, widest + 1)}
    useful = {width: counts for width, counts in counts_at.items() if counts[-1] <= gaps.size or width == widest}
    codings = [GapCoding(Letters(width), counts, huffman.estimated_bits(counts)) for width, counts in useful.items()]
    if gaps.size >= tuning.ESTIMATED_GAPS:
        return min(codings, key=lambda coding: coding.bits + tuning.FILLER_BITS * coding.fillers)
    promising = sorted(codings, key=lambda coding: coding.bits)[: tuning.WIDTHS_TRIED]
    exact = [_exact(coding) for coding in promising]
    if gaps.size <= tuning.MAX_GOLOMB_GAPS:
        exact += _golomb_codings(lengths, occurrences)
    return min(exact, key=lambda coding: coding.bits)


def _exact(coding: GapCoding) -> GapCoding:
    """Return a coding with the exact bits of a plain code instead of an estimate."""
    lengths = huffman.code_lengths(coding.counts)[None]
    table = 8 * len(prefix_code.write_lengths(lengths))
    return GapCoding(coding.letters, coding.counts, huffman.coded_bits(coding.counts) + table)


def _golomb_codings(gaps: np.ndarray, occurrences: np.ndarray) -> list[GapCoding]:
    """Return Golomb codes near the one that is best where elements are kept by chance."""
    mean = float(gaps @ occurrences) / int(occurrences.sum())
    likeliest = max(1, round((mean + 1) * np.log(2)))
    codings = []
    for divisor in {max(1, likeliest - 1), likeliest, likeliest + 1}:
        if divisor <= MAX_GOLOMB_DIVISOR:
            letters = Letters(0, divisor)
            counts = letter_counts(gaps, occurrences, letters.filler)
            assert letters.lengths is not None
            codings.append(GapCoding(letters, counts, float(counts @ letters.lengths.astype(np.int64))))
    return codings


def occurrences_of(gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different gaps, ascending, and how often each occurs."""
    longest = int(gaps.max())
    if longest > 4 * gaps.size + tuning.SHORT_HISTOGRAM:
        return np.unique(gaps, return_counts=True)
    counts = huffman.histogram(gaps, longest + 1)
    present = np.flatnonzero(counts)
    return present, counts[present]


def letter_counts(gaps: np.ndarray, occurrences: np.ndarray, filler: int) -> np.ndarray:
    """Count each letter up to `filler` in gaps with these occurrences; shape (filler + 1,)."""
    counts = np.bincount(gaps % filler, weights=occurrences, minlength=filler + 1).astype(np.int64)
    counts[filler] = (gaps // filler * occurrences).sum()
    return counts


def gaps_of(positions: np.ndarray) -> np.ndarray:
    """Return the zeros before each position, in the dtype of the positions; shape (kept,)."""
    gaps = np.empty_like(positions)
    gaps[:1] = positions[:1]
    np.subtract(positions[1:], positions[:-1], out=gaps[1:])
    gaps[1:] -= positions.dtype.type(1)
    return gaps


def positions_of(gaps: np.ndarray) -> np.ndarray:
    """Return the positions of elements with these gaps before them, in the dtype of the gaps; shape (kept,)."""
    positions: np.ndarray = np.cumsum(gaps, dtype=gaps.dtype)
    for begin in range(0, gaps.size, tuning.SCAN_CHUNK):
        part = positions[begin : begin + tuning.SCAN_CHUNK]
        part += np.arange(begin, begin + part.size, dtype=gaps.dtype)
    return positions


def scan(patterns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the gaps and the patterns of the elements that are not zero, each of shape (kept,).

    Gaps are uint32, or int64 where positions may need it. The elements are scanned in chunks, so that their positions
    never leave the second cache.

    Args:
        patterns: shape (n,).
    """
    count = int(np.count_nonzero(patterns))
    gaps: np.ndarray = np.empty(count, np.uint32 if patterns.size < 1 << 32 else np.int64)
    kept = np.empty(count, patterns.dtype)
    done, last = 0, -1
    for begin in range(0, patterns.size, tuning.SCAN_CHUNK):
        part = patterns[begin : begin + tuning.SCAN_CHUNK]
        places = np.flatnonzero(part != 0)
        if places.size:
            part_gaps = gaps[done : done + places.size]
            part_gaps[0] = begin + int(places[0]) - last - 1
            np.subtract(places[1:], places[:-1], out=part_gaps[1:], casting="unsafe")
            part_gaps[1:] -= 1
            np.take(part, places, out=kept[done : done + places.size], mode="clip")
            done, last = done + places.size, begin + int(places[-1])
    return gaps, kept


def encode_gaps(gaps: np.ndarray, coding: GapCoding) -> GapIndex:
    """Code gaps, shape (kept,), kept > 0, in the alphabet of a coding."""
    filler = coding.letters.filler
    letter = np.dtype(np.uint8 if filler < 256 else np.uint16)
    if coding.fillers == 0:
        symbols = gaps.astype(letter)
    else:
        long = np.flatnonzero(gaps >= filler)
        runs, remainders = np.divmod(gaps[long], gaps.dtype.type(filler))
        letters = gaps.astype(letter)
        letters[long] = remainders
        symbols = np.insert(letters, np.repeat(long, runs), filler)
    stream = huffman.encode_stream(symbols, filler + 1, implicit_lengths=coding.letters.lengths)
    return GapIndex(gaps.size, coding.letters, coding.fillers, stream)


def decode_gaps(index: GapIndex, symbols: np.ndarray, elements: int) -> np.ndarray:
    """Return the positions, ascending and below `elements`, from the decoded symbols of the gaps; shape (kept,).

    Raises:
        ContainerError: the symbols do not fit the counts, or lead beyond the elements.
    """
    assert index.letters is not None
    filler = index.letters.filler
    is_kept = symbols != filler
    # "The symbols that are not fillers must number kept, and the last symbol must not be a filler."
    if not is_kept[-1]:
        raise ContainerError("the gaps end with a filler")
    if (count := np.count_nonzero(is_kept)) != index.kept:
        raise ContainerError(f"{index.kept} kept elements expected, {count} in the gaps")
    # "All positions must lie in their cell."
    last = int(symbols.sum(dtype=np.int64)) + index.kept - 1
    if last >= elements:
        raise ContainerError(f"position {last} among {elements} elements")
    # a filler stands for as many zeros as its number, any other letter for its zeros and one kept element
    ends: np.ndarray = np.cumsum(symbols + is_kept, dtype=np.uint32 if elements < 1 << 32 else np.int64)
    ends -= ends.dtype.type(1)
    return ends[is_kept] if index.fillers else ends
