"""Prefix codes: counts -> code lengths -> canonical codes and decoding tables (FORMAT.md, section 5).

*Counts* and *lengths* have shape (A,) for an alphabet of A letters; a letter of count or length 0 has no code.
"""

import numpy as np

from dcomp.coding import bits
from dcomp.coding.limits import MAX_CODE_LENGTH, MAX_GOLOMB_QUOTIENTS
from dcomp.coding.wire import Cursor
from dcomp.errors import ContainerError


def optimal_lengths(counts: np.ndarray, limit: int) -> np.ndarray:
    """Return the lengths of the shortest code with no length above `limit`; uint8, shape (A,).

    The package-merge algorithm (Larmore and Hirschberg 1990): a coin of each letter's weight at each of `limit`
    levels; from the deepest level up, coins are packaged in pairs and merged with those of the next level.
    A lone letter gets length 1.
    """
    lengths = np.zeros(counts.size, np.uint8)
    letters = np.flatnonzero(counts)
    if letters.size == 1:
        lengths[letters] = 1
    if letters.size < 2:
        return lengths
    letters = letters[np.argsort(counts[letters], kind="stable")]
    weights = counts[letters]
    level, is_coin = weights, []
    for _ in range(limit - 1):
        packages = level[: level.size // 2 * 2].reshape(-1, 2).sum(axis=1)
        both = np.concatenate([weights, packages])
        order = np.argsort(both, kind="stable")
        level = both[order]
        is_coin.append(order < weights.size)
    items = 2 * letters.size - 2
    for coins in reversed(is_coin):
        count = int(np.count_nonzero(coins[:items]))
        lengths[letters[:count]] += 1
        items = 2 * (items - count)
    lengths[letters[:items]] += 1
    return lengths


def golomb_lengths(divisor: int) -> np.ndarray:
    """Return the code lengths of the Golomb code of a divisor, ended by a filler; uint8 (Golomb 1966; FORMAT.md, 4.1).

    A letter is its quotient in unary, then its remainder in as few bits as `divisor` remainders need, the smaller ones
    in one bit less; the last letter stands for a quotient beyond all others.
    """
    remainder_bits = (divisor - 1).bit_length()
    quotients = min(MAX_GOLOMB_QUOTIENTS, MAX_CODE_LENGTH - remainder_bits)
    short = (1 << remainder_bits) - divisor
    remainders = np.where(np.arange(divisor) < short, remainder_bits - 1, remainder_bits)
    lengths = np.arange(1, quotients + 1)[:, None] + remainders
    return np.append(lengths.reshape(-1), quotients).astype(np.uint8)


def _canonical_order(lengths: np.ndarray) -> np.ndarray:
    """Return the letters that have a code, by (length, letter)."""
    letters = np.flatnonzero(lengths != 0)  # numpy scans bools many times as fast
    return letters[np.argsort(lengths[letters], kind="stable")]


def codes(lengths: np.ndarray) -> np.ndarray:
    """Return the canonical code of each letter, in its low bits; uint32, shape (A,)."""
    order = _canonical_order(lengths)
    ordered = lengths[order].astype(np.int64)
    longest = ordered[-1]
    spans = 1 << (longest - ordered)  # codes of full length that begin with the letter's
    codes = np.zeros(lengths.size, np.uint32)
    codes[order] = (np.cumsum(spans) - spans) >> (longest - ordered)
    return codes


def decoding_table(lengths: np.ndarray, entries: np.ndarray, longest: int) -> np.ndarray:
    """Return for each string of `longest` bits the entry of the letter whose code it begins with.

    If one letter alone has a code, all entries are its entry.

    Args:
        lengths: shape (A,).
        entries: one for each letter, shape (A,).
        longest: no code is longer.
    """
    order = _canonical_order(lengths)
    if order.size == 1:
        return np.repeat(entries[order], 1 << longest)
    return np.repeat(entries[order], 1 << (longest - lengths[order].astype(np.int64)))


def write_lengths(lengths: np.ndarray) -> bytes:
    """Write code lengths as the bit string of FORMAT.md, section 5.1; the inverse of `read_lengths`.

    Args:
        lengths: shape (codes, A).
    """
    fields = [_length_fields(row) for row in lengths]
    return bits.pack(np.concatenate([values for values, _ in fields]), np.concatenate([widths for _, widths in fields]))


def _length_fields(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the fields of one code: for each letter in it, the run of letters without a code, then its length."""
    present = np.flatnonzero(lengths != 0)
    if present.size == 1:
        return _lone_fields(int(present[0]), int(lengths[present[0]]), lengths.size)
    present_lengths = lengths[present].astype(np.int64)
    step = np.diff(present_lengths, prepend=-LARGEST_STEP * 2) + LARGEST_STEP
    near = (step >= 0) & (step <= 2 * LARGEST_STEP)
    step[~near] = 0
    length_values = np.where(near, _STEP_VALUES[step], 0b1110 << 4 | present_lengths - 1)
    length_widths = np.where(near, _STEP_WIDTHS[step], 8)
    runs = np.diff(present, prepend=-1, append=lengths.size) - 1
    run_widths = np.where(runs > 0, 2 * np.frexp(runs)[1] - 1, 0)
    values = np.zeros((runs.size, 3), np.int64)
    widths = np.zeros((runs.size, 3), np.int64)
    values[:, 0], widths[:, 0] = 0b1111, np.where(runs > 0, 4, 0)
    values[:, 1], widths[:, 1] = runs, run_widths
    values[:-1, 2], widths[:-1, 2] = length_values, length_widths
    written = widths.reshape(-1) > 0
    return values.reshape(-1)[written], widths.reshape(-1)[written]


def _lone_fields(letter: int, length: int, alphabet: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the fields of a code of one letter."""
    fields = [(0b1110 << 4 | length - 1, 8)]
    before, after = letter, alphabet - letter - 1
    if before:
        fields = [(0b1111, 4), (before, 2 * before.bit_length() - 1), *fields]
    if after:
        fields += [(0b1111, 4), (after, 2 * after.bit_length() - 1)]
    return np.array([value for value, _ in fields]), np.array([width for _, width in fields])


LARGEST_STEP = 2
_STEP_VALUES = np.array([0b1101, 0b101, 0, 0b100, 0b1100])
"""Fields for steps of -2 to 2 from the previous length."""

_STEP_WIDTHS = np.array([4, 3, 1, 3, 4])


def read_lengths(cursor: Cursor, codes: int, alphabet: int) -> np.ndarray:
    """Read the code lengths of some codes over an alphabet and check that they make codes; shape (codes, alphabet).

    Raises:
        ContainerError: they do not make codes, or the bytes end before the alphabet does.
    """
    reader = _BitReader(cursor)
    lengths = np.zeros((codes, alphabet), np.uint8)
    for row in lengths:
        _read_code(reader, row, cursor.label)
    reader.finish()
    return lengths


def _read_code(reader: "_BitReader", lengths: np.ndarray, label: str) -> None:
    """Fill in the code lengths of one code and check that they make one."""
    alphabet = lengths.size
    present: list[int] = []
    letters: list[int] = []
    letter = previous = 0
    while letter < alphabet:
        ones = reader.ones(4)
        if ones == 4:
            letter += reader.gamma(alphabet - letter)
            continue
        if ones == 3:
            previous = reader.number(4) + 1
        else:
            # "The first letter with a code must have its length written as 1110 vvvv."
            if previous == 0:
                raise ContainerError(f"{label}: the first code length is relative to none")
            if ones:
                previous += -ones if reader.number(1) else ones
        if not 1 <= previous <= MAX_CODE_LENGTH:
            raise ContainerError(f"{label}: letter {letter} has a code of {previous} bits")
        letters.append(letter)
        present.append(previous)
        letter += 1
    lengths[letters] = present
    _check_complete(np.array(present, np.int64), label)


def _check_complete(present: np.ndarray, label: str) -> None:
    """Check the lengths of the letters that have a code."""
    if present.size == 0:
        raise ContainerError(f"{label}: a code without letters")
    if present.size == 1:
        # "If exactly one letter has a code, its length must be 1."
        if present[0] != 1:
            raise ContainerError(f"{label}: the only letter has a code of {present[0]} bits")
    elif (1 << (MAX_CODE_LENGTH - present)).sum() != 1 << MAX_CODE_LENGTH:
        # "the lengths must satisfy sum of 2^-length = 1"
        raise ContainerError(f"{label}: the code is not complete")


class _BitReader:
    """Bits of a cursor's bytes; for tables of code lengths, which are short."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._window = self._bits_left = 0

    def number(self, width: int) -> int:
        """Read an unsigned integer of `width` bits."""
        while self._bits_left < width:
            self._window = (self._window << 8 | self._cursor.byte()) & 0xFFFFFFFFFF
            self._bits_left += 8
        self._bits_left -= width
        return self._window >> self._bits_left & (1 << width) - 1

    def ones(self, most: int) -> int:
        """Read ones, up to `most`, and the zero after fewer; return the number of ones."""
        count = 0
        while count < most and self.number(1):
            count += 1
        return count

    def gamma(self, limit: int) -> int:
        """Read a number in the Elias gamma code.

        Raises:
            ContainerError: it is larger than `limit`.
        """
        zeros = 0
        while zeros < limit.bit_length() and not self.number(1):
            zeros += 1
        # "A run must not go beyond the alphabet"
        if zeros == limit.bit_length() or (value := 1 << zeros | self.number(zeros)) > limit:
            raise ContainerError(f"{self._cursor.label}: a run of letters without code leaves the alphabet")
        return value

    def finish(self) -> None:
        """Skip the other bits of the last byte."""
        self._bits_left = 0
