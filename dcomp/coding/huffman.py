"""Symbols -> Huffman-coded streams, in models and blocks that suit them (paper, section 4; FORMAT.md, section 5).

Symbols have shape (n,); of several models, the one with the fewest bits is taken. `lockstep` decodes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dcomp.coding import bits, prefix_code
from dcomp.coding.limits import MAX_BLOCK_EXPONENT, MAX_CHAINED_ALPHABET, MAX_CODE_LENGTH, MAX_PAIRED_ALPHABET
from dcomp.coding.lookup import CHUNK
from dcomp.coding.stream import Model, Stream, fewest_bits, index_shape, next_codes, widths_of

SMALLEST_BLOCK_EXPONENT = 9
MAX_INDEX_SHARE = 0.004
MANY_LETTERS = 1 << 16
"""The block index takes at most this part of the payload, and half of that if the letters are fewer."""

LONGEST_CODE = 12
"""Bits that the encoder allows where the alphabet does: tables of 4,096 entries stay in the fastest cache."""

LONGEST_PAIR = 16
"""Bits that it allows for pairs, most of which are rare."""

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


def code_lengths(counts: np.ndarray, longest: int = LONGEST_CODE) -> np.ndarray:
    """The code lengths that `encode` gives to letters that occur so often, shape (alphabet,)."""
    most = max(longest, min(MAX_CODE_LENGTH, int(np.count_nonzero(counts) - 1).bit_length() + 2))
    return prefix_code.optimal_lengths(counts, most)


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


def encode_stream(
    symbols: np.ndarray,
    alphabet: int,
    *,
    chain: bool = False,
    follows: np.ndarray | None = None,
    implicit_lengths: np.ndarray | None = None,
) -> Stream:
    """Code symbols in the model that takes the fewest bytes.

    Args:
        symbols: shape (n,), n > 0; unsigned, below `alphabet`.
        alphabet: number of different symbols there might be.
        chain: whether a symbol may tell about the next one.
        follows: of a chain, whether each symbol is the neighbour of the one before; all are if absent. Shape (n,).
        implicit_lengths: the code's lengths, which the stream then does not hold, shape (alphabet,).
    """
    if implicit_lengths is not None:
        plain = _Candidate(Model.PLAIN, symbols, implicit_lengths[None], 0)
        return _code(symbols.size, alphabet, plain, implicit_code=True)
    paired = alphabet <= MAX_PAIRED_ALPHABET and symbols.size >= MIN_PAIRED
    if paired:
        pairs = pairs_of(symbols, alphabet)
        pair_counts = histogram(pairs, alphabet * alphabet)
        counts = _marginal(pair_counts, alphabet, symbols.size)
    else:
        counts = histogram(symbols, alphabet)
    best = None
    at_least = max(entropy_bits(counts), symbols.size)
    if paired and entropy_bits(pair_counts) + TABLE_BITS * np.count_nonzero(pair_counts) < 1.1 * at_least:
        best = _Candidate.make(Model.PAIRS, pairs, pair_counts[None])
    if best is None or at_least < best.bits:
        plain = _Candidate.make(Model.PLAIN, symbols, counts[None])
        best = plain if best is None or plain.bits <= best.bits else best
    if chain and np.count_nonzero(counts) > 1:
        chained = _chained(symbols, alphabet, follows, best)
        if chained is not best:
            stream = _code(symbols.size, alphabet, chained, follows=follows)
            if stream.block_bits.sum() >= fewest_bits(symbols.size, Model.CHAINED):  # else decoders refuse it
                return stream
    if np.count_nonzero(best.lengths) == 1:
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


def _chained(symbols: np.ndarray, alphabet: int, follows: np.ndarray | None, best: _Candidate) -> _Candidate:
    """Codes that depend on the class of the symbol before, if that is smaller by enough to be worth its time."""
    finest = CHAINS[-1]
    if not finest < alphabet <= MAX_CHAINED_ALPHABET or symbols.size < MIN_CHAINED:
        return best
    joint = _counts_after(symbols, alphabet, follows, finest)
    merged = {classes: _merged(joint, classes, apart=follows is not None) for classes in CHAINS}
    estimates = {
        classes: sum(map(entropy_bits, counts)) + TABLE_BITS * np.count_nonzero(counts)
        for classes, counts in merged.items()
    }
    classes = min(estimates, key=lambda classes: estimates[classes])
    if estimates[classes] >= CHAINED_GAIN * best.bits:
        return best
    counts = merged[classes]
    counts[0] += np.bincount(symbols[:: 1 << SMALLEST_BLOCK_EXPONENT], minlength=alphabet)  # first in their blocks
    made = _Candidate.make(Model.CHAINED, symbols, counts)
    return made if made.bits < CHAINED_GAIN * best.bits else best


def _counts_after(symbols: np.ndarray, alphabet: int, follows: np.ndarray | None, classes: int) -> np.ndarray:
    """How often each symbol occurs in each code of the finest chain; shape (codes, alphabet)."""
    codes = classes + (follows is not None)
    firsts = _first_entries(alphabet, codes, apart=follows is not None)
    joint = np.zeros(codes * alphabet, np.int64)
    for begin in range(0, symbols.size, CHUNK):
        index = _chain_index(symbols, begin, firsts, follows)
        joint += np.bincount(index + symbols[begin : begin + CHUNK], minlength=joint.size)
    return joint.reshape(codes, alphabet)


def _first_entries(alphabet: int, codes: int, *, apart: bool) -> np.ndarray:
    return (next_codes(alphabet, codes, apart=apart) * alphabet).astype(np.uint16)


def _chain_index(symbols: np.ndarray, begin: int, firsts: np.ndarray, follows: np.ndarray | None) -> np.ndarray:
    """Where the code of each symbol of a chunk begins, as the symbol before has it."""
    part = symbols[begin : begin + CHUNK]
    index = np.zeros(part.size, np.uint16)
    index[1:] = firsts[part[:-1]]
    if begin:
        index[0] = firsts[symbols[begin - 1]]
    if follows is not None:
        index *= follows[begin : begin + CHUNK]
    return index


def _merged(joint: np.ndarray, classes: int, *, apart: bool) -> np.ndarray:
    """Counts of a chain with fewer classes."""
    coarser = joint[int(apart) :].reshape(classes, -1, joint.shape[1]).sum(axis=1)
    return np.concatenate([joint[: int(apart)], coarser])


def _code(
    count: int, alphabet: int, chosen: _Candidate, *, follows: np.ndarray | None = None, implicit_code: bool = False
) -> Stream:
    """Cut the letters into blocks and write them, chunk by chunk; no more than a chunk's codes are held."""
    widths = widths_of(chosen.lengths)
    entries = np.stack([prefix_code.codes(row) for row in chosen.lengths]) << ENTRY_BITS | widths
    letters, chained = chosen.letters, chosen.model is Model.CHAINED
    firsts = _first_entries(alphabet, len(entries), apart=follows is not None) if chained else None
    flat = entries.reshape(-1)

    def chunks(exponent: int) -> Iterator[np.ndarray]:
        for begin in range(0, letters.size, CHUNK):
            part = letters[begin : begin + CHUNK]
            if firsts is not None:
                index = _chain_index(letters, begin, firsts, follows)
                index[:: 1 << (exponent or MAX_BLOCK_EXPONENT)] = 0  # a block begins with the first code
                part = index + part
            yield flat.take(part)

    exponent, block_bits = _cut(_block_bits(chunks(SMALLEST_BLOCK_EXPONENT), SMALLEST_BLOCK_EXPONENT), letters.size)
    if chained and exponent != SMALLEST_BLOCK_EXPONENT:
        block_bits = _block_bits(chunks(exponent), exponent or MAX_BLOCK_EXPONENT)
    writer = bits.BitWriter(int(block_bits.sum()))
    for chunk in chunks(exponent):
        writer.append(chunk >> ENTRY_BITS, chunk & ENTRY_MASK, int(widths.max()))
    payload = writer.to_bytes()
    apart = chained and follows is not None
    return Stream(count, alphabet, chosen.model, chosen.lengths, exponent, block_bits, payload, implicit_code, apart)


def _block_bits(chunks: Iterator[np.ndarray], exponent: int) -> np.ndarray:
    """Sizes in bits of the blocks of 2^exponent letters, whose entries come in chunks."""
    per_block = 1 << exponent
    sums = [
        np.add.reduceat(chunk & ENTRY_MASK, np.arange(0, chunk.size, per_block), dtype=np.int64) for chunk in chunks
    ]
    return np.concatenate(sums)


def _cut(block_bits: np.ndarray, letters: int) -> tuple[int, np.ndarray]:
    """The smallest blocks, of those given or some together, whose index is small enough: exponent, sizes in bits."""
    share = MAX_INDEX_SHARE if letters >= MANY_LETTERS else MAX_INDEX_SHARE / 2
    most = share * int(block_bits.sum())
    for exponent in range(SMALLEST_BLOCK_EXPONENT, MAX_BLOCK_EXPONENT):
        if block_bits.size == 1:
            return 0, block_bits
        _, width = index_shape(block_bits)
        if width * (block_bits.size - 1) <= most:
            return exponent, block_bits
        block_bits = np.add.reduceat(block_bits, np.arange(0, block_bits.size, 2))
    return (0 if block_bits.size == 1 else MAX_BLOCK_EXPONENT), block_bits
