"""Symbols -> Huffman-coded streams, in the model and blocks that suit them (paper, section 4; FORMAT.md, section 5).

Symbols have shape (n,). `lockstep` decodes streams.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dcomp.coding import bits, prefix_code, tuning
from dcomp.coding.limits import MAX_BLOCK_EXPONENT, MAX_CHAINED_ALPHABET, MAX_CODE_LENGTH, MAX_PAIRED_ALPHABET
from dcomp.coding.stream import Model, Stream, fewest_bits, index_shape, next_codes, widths_of

ENTRY_BITS = 5
ENTRY_MASK = 31
"""For each letter the encoder looks up `code << 5 | width`."""


def code_lengths(counts: np.ndarray, longest: int = tuning.LONGEST_CODE) -> np.ndarray:
    """Return the code lengths that `encode_stream` gives to letters with these counts, shape (alphabet,)."""
    most = max(longest, min(MAX_CODE_LENGTH, int(np.count_nonzero(counts) - 1).bit_length() + 2))
    return prefix_code.optimal_lengths(counts, most)


def coded_bits(counts: np.ndarray) -> int:
    """Return the bits of letters with these counts, shape (alphabet,), in their code, without its table."""
    return int(counts @ widths_of(code_lengths(counts)[None])[0])


def entropy_bits(counts: np.ndarray) -> float:
    """Return the order-0 entropy in bits of all letters with these counts, shape (alphabet,)."""
    present = counts[counts > 0].astype(np.float64)
    return float(present @ np.log2(present.sum() / present)) if present.size else 0.0


def estimated_bits(counts: np.ndarray) -> float:
    """Estimate the bits of letters with these counts and of their table, without a code; pairs are considered."""
    total = int(counts.sum())
    table = tuning.TABLE_LETTER_BITS / 2 * np.count_nonzero(counts)
    if counts.size > MAX_PAIRED_ALPHABET or total < tuning.LONG_STREAM:
        present = counts[counts > 0]
        return float(present @ np.maximum(np.log2(total / present), 1)) + table
    if counts.size <= tuning.SMALL_ALPHABET:
        pairs = np.rint(np.outer(counts, counts) / total).astype(np.int64).reshape(-1)
        return coded_bits(pairs) / 2 + table
    likeliest = (counts.max() / total) ** 2  # pair; it takes one bit, even where its information is less
    excess = 1 - entropy_bits(np.array([likeliest, 1 - likeliest])) if likeliest > 0.5 else 0.0
    return entropy_bits(counts) + excess * total / 2 + table


@dataclass(frozen=True)
class _Candidate:
    """A model with its code.

    Attributes:
        model: of the stream.
        letters: that are coded, shape (n,).
        lengths: of each code, shape (codes, letters).
        bits: of the letters and the table.
    """

    model: Model
    letters: np.ndarray
    lengths: np.ndarray
    bits: int

    @classmethod
    def with_code(cls, model: Model, letters: np.ndarray, counts: np.ndarray) -> "_Candidate":
        """Find the best codes for letters with these counts, shape (codes, letters)."""
        longest = tuning.LONGEST_PAIR_CODE if model is Model.PAIRS else tuning.LONGEST_CODE
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
        chain: whether to try codes that depend on the symbol before.
        follows: of a chain, whether each symbol is the neighbour of the one before; all are if absent. Shape (n,).
        implicit_lengths: the code's lengths, which the stream then does not hold, shape (alphabet,).
    """
    if implicit_lengths is not None:
        plain = _Candidate(Model.PLAIN, symbols, implicit_lengths[None], 0)
        return _code(symbols.size, alphabet, plain, implicit_code=True)
    best, distinct = _smaller_of_plain_and_pairs(symbols, alphabet)
    if chain and distinct > 1:
        chained = _chained(symbols, alphabet, follows, best)
        if chained is not best:
            stream = _code(symbols.size, alphabet, chained, follows=follows)
            if stream.block_bits.sum() >= fewest_bits(symbols.size, Model.CHAINED):  # else decoders refuse it
                return stream
    if np.count_nonzero(best.lengths) == 1:
        return Stream(symbols.size, alphabet, best.model, best.lengths, 0, np.zeros(0, np.int64), b"")
    return _code(symbols.size, alphabet, best)


def _smaller_of_plain_and_pairs(symbols: np.ndarray, alphabet: int) -> tuple[_Candidate, int]:
    """Return the smaller of a plain code and a code of pairs, and the number of distinct symbols."""
    paired = alphabet <= MAX_PAIRED_ALPHABET and symbols.size >= tuning.MIN_PAIRED
    if paired:
        pairs = pairs_of(symbols, alphabet)
        pair_counts = histogram(pairs, alphabet * alphabet)
        counts = _marginal(pair_counts, alphabet, symbols.size)
    else:
        counts = histogram(symbols, alphabet)
    best = None
    least_plain_bits = max(entropy_bits(counts), symbols.size)
    if paired:
        pair_bits = entropy_bits(pair_counts) + tuning.TABLE_LETTER_BITS * np.count_nonzero(pair_counts)
        if pair_bits < tuning.PAIRED_MARGIN * least_plain_bits:
            best = _Candidate.with_code(Model.PAIRS, pairs, pair_counts[None])
    if best is None or least_plain_bits < best.bits:
        plain = _Candidate.with_code(Model.PLAIN, symbols, counts[None])
        best = plain if best is None or plain.bits <= best.bits else best
    return best, int(np.count_nonzero(counts))


def histogram(symbols: np.ndarray, alphabet: int) -> np.ndarray:
    """Count each symbol; int64, shape (alphabet,)."""
    counts = np.zeros(alphabet, np.int64)
    for begin in range(0, symbols.size, tuning.HISTOGRAM_CHUNK):
        counts += np.bincount(symbols[begin : begin + tuning.HISTOGRAM_CHUNK], minlength=alphabet)
    return counts


def _marginal(pair_counts: np.ndarray, alphabet: int, symbols: int) -> np.ndarray:
    """Count each symbol, from the counts of pairs; `symbols` is the number of all symbols."""
    both = pair_counts.reshape(alphabet, alphabet)
    counts = both.sum(axis=0) + both.sum(axis=1)
    counts[0] -= symbols % 2
    return counts


def pairs_of(symbols: np.ndarray, alphabet: int) -> np.ndarray:
    """Return a letter for each two symbols, first + alphabet x second; uint16. If n is odd, the last second is 0."""
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
    """Return codes that depend on the class of the symbol before if they are smaller by enough, or else the best."""
    finest = tuning.CHAIN_CLASSES[-1]
    if not finest < alphabet <= MAX_CHAINED_ALPHABET or symbols.size < tuning.MIN_CHAINED:
        return best
    joint = _counts_after(symbols, alphabet, follows, finest)
    counts_of = {classes: _coarser(joint, classes, apart=follows is not None) for classes in tuning.CHAIN_CLASSES}
    estimates = {
        classes: sum(map(entropy_bits, counts)) + tuning.TABLE_LETTER_BITS * np.count_nonzero(counts)
        for classes, counts in counts_of.items()
    }
    classes = min(estimates, key=lambda classes: estimates[classes])
    if estimates[classes] >= tuning.CHAIN_GAIN * best.bits:
        return best
    counts = counts_of[classes]
    first_in_blocks = symbols[:: 1 << tuning.SMALLEST_BLOCK_EXPONENT]
    counts[0] += np.bincount(first_in_blocks, minlength=alphabet)
    chained = _Candidate.with_code(Model.CHAINED, symbols, counts)
    return chained if chained.bits < tuning.CHAIN_GAIN * best.bits else best


def _counts_after(symbols: np.ndarray, alphabet: int, follows: np.ndarray | None, classes: int) -> np.ndarray:
    """Count each symbol in each code of the finest chain; shape (codes, alphabet)."""
    codes = classes + (follows is not None)
    firsts = _first_entries(alphabet, codes, apart=follows is not None)
    joint = np.zeros(codes * alphabet, np.int64)
    for begin in range(0, symbols.size, tuning.LOOKUP_CHUNK):
        index = _chain_index(symbols, begin, firsts, follows)
        joint += np.bincount(index + symbols[begin : begin + tuning.LOOKUP_CHUNK], minlength=joint.size)
    return joint.reshape(codes, alphabet)


def _first_entries(alphabet: int, codes: int, *, apart: bool) -> np.ndarray:
    return (next_codes(alphabet, codes, apart=apart) * alphabet).astype(np.uint16)


def _chain_index(symbols: np.ndarray, begin: int, firsts: np.ndarray, follows: np.ndarray | None) -> np.ndarray:
    """Return where the code of each symbol of a chunk begins in the table; the symbol before chooses it."""
    part = symbols[begin : begin + tuning.LOOKUP_CHUNK]
    index = np.zeros(part.size, np.uint16)
    index[1:] = firsts[part[:-1]]
    if begin:
        index[0] = firsts[symbols[begin - 1]]
    if follows is not None:
        index *= follows[begin : begin + tuning.LOOKUP_CHUNK]
    return index


def _coarser(joint: np.ndarray, classes: int, *, apart: bool) -> np.ndarray:
    """Sum the counts of the finest chain to the counts of a chain with fewer classes."""
    of_classes = joint[int(apart) :].reshape(classes, -1, joint.shape[1]).sum(axis=1)
    return np.concatenate([joint[: int(apart)], of_classes])


def _code(
    count: int, alphabet: int, chosen: _Candidate, *, follows: np.ndarray | None = None, implicit_code: bool = False
) -> Stream:
    """Divide the letters into blocks and write them; only the codes of one chunk are in memory at a time."""
    widths = widths_of(chosen.lengths)
    entries = np.stack([prefix_code.codes(row) for row in chosen.lengths]) << ENTRY_BITS | widths
    letters, chained = chosen.letters, chosen.model is Model.CHAINED
    firsts = _first_entries(alphabet, len(entries), apart=follows is not None) if chained else None
    flat = entries.reshape(-1)

    def chunks(exponent: int) -> Iterator[np.ndarray]:
        for begin in range(0, letters.size, tuning.LOOKUP_CHUNK):
            part = letters[begin : begin + tuning.LOOKUP_CHUNK]
            if firsts is not None:
                index = _chain_index(letters, begin, firsts, follows)
                index[:: 1 << (exponent or MAX_BLOCK_EXPONENT)] = 0  # a block begins with the first code
                part = index + part
            yield flat.take(part)

    smallest = tuning.SMALLEST_BLOCK_EXPONENT
    exponent, block_bits = _choose_blocks(_block_bits(chunks(smallest), smallest), letters.size)
    if chained and exponent != smallest:
        block_bits = _block_bits(chunks(exponent), exponent or MAX_BLOCK_EXPONENT)
    writer = bits.BitWriter(int(block_bits.sum()))
    for chunk in chunks(exponent):
        writer.append(chunk >> ENTRY_BITS, chunk & ENTRY_MASK, int(widths.max()))
    payload = writer.to_bytes()
    apart = chained and follows is not None
    return Stream(count, alphabet, chosen.model, chosen.lengths, exponent, block_bits, payload, implicit_code, apart)


def _block_bits(chunks: Iterator[np.ndarray], exponent: int) -> np.ndarray:
    """Return the sizes in bits of blocks of 2^exponent letters, whose entries come in chunks."""
    per_block = 1 << exponent
    sums = [
        np.add.reduceat(chunk & ENTRY_MASK, np.arange(0, chunk.size, per_block), dtype=np.int64) for chunk in chunks
    ]
    return np.concatenate(sums)


def _choose_blocks(block_bits: np.ndarray, letters: int) -> tuple[int, np.ndarray]:
    """Join the smallest blocks, two and two, until their index is small enough; return exponent and sizes in bits."""
    share = tuning.MAX_INDEX_SHARE if letters >= tuning.FULL_INDEX_LETTERS else tuning.MAX_INDEX_SHARE / 2
    max_index_bits = share * int(block_bits.sum())
    for exponent in range(tuning.SMALLEST_BLOCK_EXPONENT, MAX_BLOCK_EXPONENT):
        if block_bits.size == 1:
            return 0, block_bits
        _, width = index_shape(block_bits)
        if width * (block_bits.size - 1) <= max_index_bits:
            return exponent, block_bits
        block_bits = np.add.reduceat(block_bits, np.arange(0, block_bits.size, 2))
    return (0 if block_bits.size == 1 else MAX_BLOCK_EXPONENT), block_bits
