"""Symbols -> Huffman-coded streams, in blocks that decode in lock step (paper, section 4; FORMAT.md, section 5).

*Symbols* are unsigned integers below the size of their alphabet, shape (n,). What is coded are *letters*: the
symbols themselves, or pairs of them, or symbols whose code depends on the symbol before. `lockstep` decodes.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np

from dcomp.coding import bits, prefix_code
from dcomp.coding.limits import (
    MAX_BLOCK_EXPONENT,
    MAX_CHAINED_CODES,
    MAX_CODE_LENGTH,
    MAX_INDEX_WIDTH,
    MAX_PAIRED_ALPHABET,
    MIN_BLOCK_EXPONENT,
)
from dcomp.coding.wire import Cursor, varint
from dcomp.errors import ContainerError

SMALLEST_BLOCK_EXPONENT = 9
MAX_INDEX_SHARE = 0.004
"""The block index takes at most this part of the payload."""

LONGEST_CODE = 12
"""Bits that the encoder allows where the alphabet does: tables of 4,096 entries stay in the fastest cache."""

LONGEST_PAIR = 16
"""Bits that it allows for pairs, most of which are rare."""

CHUNK = 1 << 16
"""Letters that are coded at a time; what is made of them stays in the second cache."""

COUNTED = 1 << 19
"""Letters that are counted at a time."""

ENTRY_BITS = 5
ENTRY_MASK = 31
"""What the encoder looks up for a letter is `code << 5 | width`."""

TABLE_BITS = 4
"""About what a letter takes in a table of code lengths; it decides which models are looked at closely."""

CHAINS = (3, 6, 12)
MIN_CHAINED = 2048
MIN_PAIRED = 1024
"""Symbols below which a model with larger tables is not tried."""

MANY = 1 << 14
"""Symbols from which on a stream in pairs comes close to its entropy."""

NARROW = 16
"""Letters up to which pairs of them are few enough to make their code for an estimate."""

CHAINED_GAIN = 0.99
"""A chain decodes more slowly, and has to be smaller than this times what it replaces."""


class Model(IntEnum):
    """What a stream's letters are (FORMAT.md, section 5)."""

    PLAIN = 0
    PAIRS = 1
    CHAINED = 2


@dataclass(frozen=True)
class Stream:
    """A coded sequence of symbols.

    Attributes:
        count: number of symbols, > 0.
        alphabet: number of different symbols there might be, A.
        model: what its letters are.
        lengths: code length of each letter, shape (codes, letters): one code over A letters, one over A^2 pairs, or
            several over A letters.
        exponent: blocks have 2^exponent letters, the last one what is left; 0 if there is one block.
        block_bits: size of each block in bits, shape (blocks,); empty where a lone letter needs none.
        payload: the blocks, one after the other.
    """

    count: int
    alphabet: int
    model: Model
    lengths: np.ndarray
    exponent: int
    block_bits: np.ndarray
    payload: bytes | memoryview

    @property
    def letters(self) -> int:
        """Number of letters that are coded."""
        return _letter_count(self.count, self.model)

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return len(self._bytes)

    def to_bytes(self) -> bytes:
        """The stream as FORMAT.md, section 5, lays it out."""
        return self._bytes

    @cached_property
    def _bytes(self) -> bytes:
        blocks = self.exponent - MIN_BLOCK_EXPONENT + 1 if self.exponent else 0
        parts: list[bytes | memoryview] = [bytes([blocks | self.model << 4])]
        if self.model is Model.CHAINED:
            parts.append(bytes([len(self.lengths)]))
        parts.append(prefix_code.write_lengths(self.lengths))
        if self.block_bits.size:
            parts += [varint(int(self.block_bits.sum())), _index(self.block_bits), self.payload]
        return b"".join(parts)

    @classmethod
    def parse(cls, cursor: Cursor, count: int, alphabet: int) -> "Stream":
        """Read a stream of `count` symbols.

        Raises:
            ContainerError: it breaks the format.
        """
        head = cursor.byte()
        blocks_field, model_number = head & 15, head >> 4
        exponent = blocks_field + MIN_BLOCK_EXPONENT - 1 if blocks_field else 0
        if exponent > MAX_BLOCK_EXPONENT or model_number > Model.CHAINED:
            raise ContainerError(f"{cursor.what}: a stream begins with the reserved value {head:#04x}")
        model = Model(model_number)
        codes, letters = 1, alphabet
        if model is Model.PAIRS:
            if alphabet > MAX_PAIRED_ALPHABET:
                raise ContainerError(f"{cursor.what}: pairs over an alphabet of {alphabet} letters")
            letters = alphabet * alphabet
        elif model is Model.CHAINED:
            codes = cursor.byte()
            if not 2 <= codes <= min(MAX_CHAINED_CODES, alphabet):
                raise ContainerError(f"{cursor.what}: a chain of {codes} codes over {alphabet} letters")
        lengths = prefix_code.read_lengths(cursor, codes, letters)
        coded = _letter_count(count, model)
        blocks = -(-coded >> exponent) if exponent else 1
        if (blocks == 1) != (exponent == 0) or coded > blocks << MAX_BLOCK_EXPONENT:
            raise ContainerError(f"{cursor.what}: {coded} letters in blocks of 2^{exponent}")
        if model is not Model.CHAINED and np.count_nonzero(lengths) == 1:
            if exponent:
                raise ContainerError(f"{cursor.what}: blocks where letters take no bits")
            return cls(count, alphabet, model, lengths, 0, np.zeros(0, np.int64), b"")
        total = cursor.varint(8 * cursor.remaining, "payload bits")
        if total < coded and model is not Model.CHAINED:
            # no letter takes less than a bit: what is declared cannot be much larger than what is there
            raise ContainerError(f"{cursor.what}: {coded} letters in {total} bits")
        block_bits = np.full(blocks, total)
        if blocks > 1:
            shortest = cursor.varint(total, "shortest block")
            width = cursor.byte()
            if width > MAX_INDEX_WIDTH:
                raise ContainerError(f"{cursor.what}: index entries of {width} bits")
            index = cursor.take(((blocks - 1) * width + 7) // 8)
            block_bits[:-1] = bits.unpack(index, width, blocks - 1) + shortest
            block_bits[-1] -= block_bits[:-1].sum()
            if block_bits[-1] < 0:
                raise ContainerError(f"{cursor.what}: the blocks are longer than the payload")
        return cls(count, alphabet, model, lengths, exponent, block_bits, cursor.take((total + 7) // 8))


def _letter_count(symbols: int, model: Model) -> int:
    return (symbols + 1) // 2 if model is Model.PAIRS else symbols


def _index(block_bits: np.ndarray) -> bytes:
    """The fields `shortest`, `index width` and `index`."""
    if block_bits.size == 1:
        return b""
    shortest, width = _index_shape(block_bits)
    entries = block_bits[:-1] - shortest
    packed = bits.pack(entries, np.full(entries.size, width)) if width else b""
    return varint(shortest) + bytes([width]) + packed


def _index_shape(block_bits: np.ndarray) -> tuple[int, int]:
    shortest = int(block_bits[:-1].min())
    return shortest, (int(block_bits[:-1].max()) - shortest).bit_length()


def code_lengths(counts: np.ndarray, longest: int = LONGEST_CODE) -> np.ndarray:
    """The code lengths that `encode` gives to letters that occur so often, shape (alphabet,)."""
    most = max(longest, min(MAX_CODE_LENGTH, int(np.count_nonzero(counts) - 1).bit_length() + 2))
    return prefix_code.optimal_lengths(counts, most)


def widths_of(lengths: np.ndarray) -> np.ndarray:
    """Bits that each letter takes: its code's, and none where a code has one letter; uint32, shape (codes, letters)."""
    widths = lengths.astype(np.uint32)
    widths[np.count_nonzero(widths, axis=1) == 1] = 0
    return widths


def coded_bits(counts: np.ndarray) -> int:
    """Bits of letters that occur so often, shape (alphabet,), each in its code; without the table."""
    return int(counts @ widths_of(code_lengths(counts)[None])[0])


def entropy_bits(counts: np.ndarray) -> float:
    """Order-0 entropy of letters that occur so often, for all of them together."""
    present = counts[counts > 0].astype(np.float64)
    return float(present @ np.log2(present.sum() / present)) if present.size else 0.0


def estimated_bits(counts: np.ndarray) -> float:
    """About what letters that occur so often take, with their table: no code made, pairs taken into account."""
    total = int(counts.sum())
    table = TABLE_BITS / 2 * np.count_nonzero(counts)
    if counts.size > MAX_PAIRED_ALPHABET or total < MANY:
        present = counts[counts > 0]
        return float(present @ np.maximum(np.log2(total / present), 1)) + table
    if counts.size <= NARROW:
        pairs = np.rint(np.outer(counts, counts) / total).astype(np.int64).reshape(-1)
        return coded_bits(pairs) / 2 + table
    likeliest = (counts.max() / total) ** 2  # pair; it takes a bit, whatever it is worth
    lost = 1 - entropy_bits(np.array([likeliest, 1 - likeliest])) if likeliest > 0.5 else 0.0
    return entropy_bits(counts) + lost * total / 2 + table


@dataclass(frozen=True)
class _Candidate:
    """A model with its code, and the bits of both."""

    model: Model
    letters: np.ndarray
    lengths: np.ndarray
    bits: int

    @classmethod
    def make(cls, model: Model, letters: np.ndarray, counts: np.ndarray) -> "_Candidate":
        """Find the codes for letters that occur `counts` often, shape (codes, letters)."""
        longest = LONGEST_PAIR if model is Model.PAIRS else LONGEST_CODE
        lengths = np.stack([code_lengths(row, longest) for row in counts])
        lengths[~lengths.any(axis=1), 0] = 1  # a code that no symbol needs
        payload = int((counts * widths_of(lengths)).sum())
        return cls(model, letters, lengths, payload + 8 * len(prefix_code.write_lengths(lengths)))


def encode(symbols: np.ndarray, alphabet: int, *, counts: np.ndarray | None = None, chain: bool = False) -> Stream:
    """Code symbols in the model that takes the fewest bytes.

    Args:
        symbols: shape (n,), n > 0; unsigned, below `alphabet`.
        alphabet: number of different symbols there might be.
        counts: how often each occurs, if that is known, shape (alphabet,).
        chain: whether a symbol may tell about the next one.
    """
    paired = alphabet <= MAX_PAIRED_ALPHABET and symbols.size >= MIN_PAIRED
    if paired:
        pairs = pairs_of(symbols, alphabet)
        pair_counts = histogram(pairs, alphabet * alphabet)
        counts = _marginal(pair_counts, alphabet, symbols.size)
    elif counts is None:
        counts = histogram(symbols, alphabet)
    best = None
    at_least = max(entropy_bits(counts), symbols.size)
    if paired and entropy_bits(pair_counts) + TABLE_BITS * np.count_nonzero(pair_counts) < 1.1 * at_least:
        best = _Candidate.make(Model.PAIRS, pairs, pair_counts[None])
    if best is None or at_least < best.bits:
        plain = _Candidate.make(Model.PLAIN, symbols, counts[None])
        best = plain if best is None or plain.bits <= best.bits else best
    if chain and np.count_nonzero(counts) > 1:
        best = _chained(symbols, alphabet, best)
    if best.model is not Model.CHAINED and np.count_nonzero(best.lengths) == 1:
        return Stream(symbols.size, alphabet, best.model, best.lengths, 0, np.zeros(0, np.int64), b"")
    return _code(symbols.size, alphabet, best)


def histogram(symbols: np.ndarray, alphabet: int) -> np.ndarray:
    """How often each symbol occurs; int64, shape (alphabet,)."""
    counts = np.zeros(alphabet, np.int64)
    for begin in range(0, symbols.size, COUNTED):
        counts += np.bincount(symbols[begin : begin + COUNTED], minlength=alphabet)
    return counts


def _marginal(pair_counts: np.ndarray, alphabet: int, symbols: int) -> np.ndarray:
    """How often each symbol occurs in pairs of so many symbols."""
    both = pair_counts.reshape(alphabet, alphabet)
    counts = both.sum(axis=0) + both.sum(axis=1)
    counts[0] -= symbols % 2
    return counts


def pairs_of(symbols: np.ndarray, alphabet: int) -> np.ndarray:
    """A letter for each two symbols, first + alphabet x second; uint16. An odd one's second is 0."""
    symbols = symbols.astype(np.uint8, copy=False)
    if symbols.size % 2:
        symbols = np.append(symbols, np.uint8(0))
    both = np.ascontiguousarray(symbols).view("<u2")
    if alphabet == MAX_PAIRED_ALPHABET:
        return both
    letters = both >> 8
    letters *= np.uint16(alphabet)
    letters += both & 255
    return letters


def _chained(symbols: np.ndarray, alphabet: int, best: _Candidate) -> _Candidate:
    """Codes that depend on the class of the symbol before, if that is smaller by enough to be worth its time."""
    finest = CHAINS[-1]
    if not finest < alphabet <= MAX_PAIRED_ALPHABET * 2 or symbols.size < MIN_CHAINED:
        return best
    joint = _counts_after(symbols, alphabet, finest)
    estimates = {}
    for codes in CHAINS:
        counts = joint.reshape(codes, -1, alphabet).sum(axis=1)
        tables = TABLE_BITS * np.count_nonzero(counts)
        estimates[codes] = sum(entropy_bits(row) for row in counts) + tables
    codes = min(estimates, key=lambda codes: estimates[codes])
    if estimates[codes] >= CHAINED_GAIN * best.bits:
        return best
    counts = joint.reshape(codes, -1, alphabet).sum(axis=1)
    counts[0] += np.bincount(symbols[:: 1 << SMALLEST_BLOCK_EXPONENT], minlength=alphabet)  # first in their blocks
    made = _Candidate.make(Model.CHAINED, symbols, counts)
    return made if made.bits < CHAINED_GAIN * best.bits else best


def _counts_after(symbols: np.ndarray, alphabet: int, codes: int) -> np.ndarray:
    """How often each symbol comes after each class of symbols; shape (codes, alphabet)."""
    first_letter = (chain_classes(alphabet, codes) * alphabet).astype(np.uint16)
    joint = np.zeros(codes * alphabet, np.int64)
    for begin in range(0, symbols.size - 1, CHUNK):
        part = symbols[begin : begin + CHUNK + 1]
        joint += np.bincount(first_letter[part[:-1]] + part[1:], minlength=joint.size)
    return joint.reshape(codes, alphabet)


def chain_classes(alphabet: int, codes: int) -> np.ndarray:
    """The code that follows each symbol: floor(symbol x codes / alphabet); shape (alphabet,)."""
    return np.arange(alphabet) * codes // alphabet


def _code(count: int, alphabet: int, chosen: _Candidate) -> Stream:
    """Write the payload, chunk by chunk, and cut it into blocks."""
    widths = widths_of(chosen.lengths)
    entries = np.stack([prefix_code.codes(row) for row in chosen.lengths]) << ENTRY_BITS | widths
    letters = chosen.letters
    if chosen.model is Model.CHAINED:
        exponent, block_bits, spans = _chained_entries(letters, entries, alphabet)
    else:
        spans = [entries[0].take(letters[i : i + CHUNK]) for i in range(0, letters.size, CHUNK)]
        exponent, block_bits = _cut(_block_bits(spans, SMALLEST_BLOCK_EXPONENT))
    writer = bits.BitWriter(int(block_bits.sum()))
    for span in spans:
        writer.append(span >> ENTRY_BITS, span & ENTRY_MASK, int(widths.max()))
    return Stream(count, alphabet, chosen.model, chosen.lengths, exponent, block_bits, writer.to_bytes())


def _chained_entries(
    symbols: np.ndarray, entries: np.ndarray, alphabet: int
) -> tuple[int, np.ndarray, list[np.ndarray]]:
    """The entries of symbols whose code the one before chooses, and the blocks; a block begins with the first code."""
    starts_of_code = (chain_classes(alphabet, len(entries)) * alphabet).astype(np.uint16)
    flat = entries.reshape(-1)

    def spans(exponent: int) -> list[np.ndarray]:
        made = []
        for begin in range(0, symbols.size, CHUNK):
            part = symbols[begin : begin + CHUNK]
            index = np.zeros(part.size, np.uint16)
            index[1:] = starts_of_code[part[:-1]]
            if begin & (1 << exponent) - 1:  # it goes on with a block of the chunk before
                index[0] = starts_of_code[symbols[begin - 1]]
            index[1 << exponent :: 1 << exponent] = 0
            made.append(flat.take(index + part))
        return made

    smallest = spans(SMALLEST_BLOCK_EXPONENT)
    exponent, block_bits = _cut(_block_bits(smallest, SMALLEST_BLOCK_EXPONENT))
    if exponent == SMALLEST_BLOCK_EXPONENT:
        return exponent, block_bits, smallest
    wanted = spans(exponent or MAX_BLOCK_EXPONENT)
    return exponent, _block_bits(wanted, exponent or MAX_BLOCK_EXPONENT), wanted


def _block_bits(spans: list[np.ndarray], exponent: int) -> np.ndarray:
    """Sizes in bits of the blocks of 2^exponent letters, whose entries come in chunks."""
    sums = [
        np.add.reduceat(span & ENTRY_MASK, np.arange(0, span.size, 1 << exponent), dtype=np.int64) for span in spans
    ]
    return np.concatenate(sums)


def _cut(block_bits: np.ndarray) -> tuple[int, np.ndarray]:
    """The smallest blocks, of those given or some together, whose index is small enough: exponent, sizes in bits."""
    payload_bits = int(block_bits.sum())
    for exponent in range(SMALLEST_BLOCK_EXPONENT, MAX_BLOCK_EXPONENT):
        if block_bits.size == 1:
            return 0, block_bits
        _, width = _index_shape(block_bits)
        if width * (block_bits.size - 1) <= MAX_INDEX_SHARE * payload_bits:
            return exponent, block_bits
        block_bits = np.add.reduceat(block_bits, np.arange(0, block_bits.size, 2))
    return (0 if block_bits.size == 1 else MAX_BLOCK_EXPONENT), block_bits
