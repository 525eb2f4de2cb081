"""Prefix codes: counts -> code lengths -> canonical codes and decoding tables (FORMAT.md, section 5).

*Counts* and *lengths* have shape (A,) for an alphabet of A letters; a letter of count or length 0 has no code.
"""

import numpy as np

from dcomp.coding import bits
from dcomp.coding.limits import MAX_CODE_LENGTH
from dcomp.coding.wire import Cursor
from dcomp.errors import ContainerError

LENGTH_BITS = 5
"""A table entry is `letter << LENGTH_BITS | length`; lengths go up to 16."""


def optimal_lengths(counts: np.ndarray, limit: int) -> np.ndarray:
    """Lengths of the shortest code with no length above `limit`; uint8, shape (A,).

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
    merged, is_coin = weights, []
    for _ in range(limit - 1):
        packages = merged[: merged.size // 2 * 2].reshape(-1, 2).sum(axis=1)
        both = np.concatenate([weights, packages])
        order = np.argsort(both, kind="stable")
        merged = both[order]
        is_coin.append(order < weights.size)
    wanted = 2 * letters.size - 2
    for coins in reversed(is_coin):
        taken = int(np.count_nonzero(coins[:wanted]))
        lengths[letters[:taken]] += 1
        wanted = 2 * (wanted - taken)
    lengths[letters[:wanted]] += 1
    return lengths


def _canonical_order(lengths: np.ndarray) -> np.ndarray:
    """Letters that have a code, by (length, letter)."""
    letters = np.flatnonzero(lengths)
    return letters[np.argsort(lengths[letters], kind="stable")]


def codes(lengths: np.ndarray) -> np.ndarray:
    """The canonical code of each letter, in its low bits; uint32, shape (A,)."""
    order = _canonical_order(lengths)
    ordered = lengths[order].astype(np.int64)
    longest = ordered[-1]
    spans = 1 << (longest - ordered)  # codes of full length that begin with the letter's
    found = np.zeros(lengths.size, np.uint32)
    found[order] = (np.cumsum(spans) - spans) >> (longest - ordered)
    return found


def decoding_table(lengths: np.ndarray) -> np.ndarray:
    """Entry for each string of as many bits as the longest code has: the letter it begins with, and its length."""
    order = _canonical_order(lengths)
    ordered = lengths[order].astype(np.int64)
    narrow = lengths.size << LENGTH_BITS <= 1 << 16
    entries = (order << LENGTH_BITS | ordered).astype(np.uint16 if narrow else np.uint32)
    return np.repeat(entries, 1 << (ordered[-1] - ordered))


def write_lengths(lengths: np.ndarray) -> bytes:
    """The bit string of FORMAT.md, section 5.1; the inverse of `read_lengths`."""
    values: list[int] = []
    widths: list[int] = []

    def put(value: int, width: int) -> None:
        values.append(value)
        widths.append(width)

    previous = absent = 0
    for length in [*lengths.tolist(), None]:
        if length == 0:
            absent += 1
            continue
        if absent:
            put(0b1111, 4)
            put(absent, 2 * absent.bit_length() - 1)
            absent = 0
        if length is None:
            break
        step = length - previous if previous else None
        put(*_STEPS[step] if step in _STEPS else (0b1110 << 4 | length - 1, 8))
        previous = length
    return bits.pack(np.array(values), np.array(widths))


_STEPS: dict[int | None, tuple[int, int]] = {0: (0, 1), 1: (0b100, 3), -1: (0b101, 3), 2: (0b1100, 4), -2: (0b1101, 4)}


def read_lengths(cursor: Cursor, alphabet: int) -> np.ndarray:
    """Read the code lengths of an alphabet and check that they make a code.

    Raises:
        ContainerError: they do not, or the bytes end before the alphabet does.
    """
    lengths = np.zeros(alphabet, np.uint8)
    reader = _BitReader(cursor)
    letter = previous = 0
    while letter < alphabet:
        if reader.bit() == 0:
            length = previous
        elif reader.bit() == 0:
            length = previous + (-1 if reader.bit() else 1)
        elif reader.bit() == 0:
            length = previous + (-2 if reader.bit() else 2)
        elif reader.bit() == 0:
            length = previous = reader.number(4) + 1
        else:
            letter += reader.gamma(alphabet - letter)
            continue
        if previous == 0 or not 1 <= length <= MAX_CODE_LENGTH:
            raise ContainerError(f"{cursor.what}: letter {letter} has a code of {length} bits")
        lengths[letter] = previous = length
        letter += 1
    reader.finish()
    _check_complete(lengths, cursor.what)
    return lengths


def _check_complete(lengths: np.ndarray, what: str) -> None:
    present = lengths[lengths > 0].astype(np.int64)
    if present.size == 1:
        # "If exactly one letter has a code, its length must be 1."
        if present[0] != 1:
            raise ContainerError(f"{what}: the only letter has a code of {present[0]} bits")
    elif (1 << (MAX_CODE_LENGTH - present)).sum() != 1 << MAX_CODE_LENGTH:
        # "the lengths must satisfy sum of 2^-length = 1"
        raise ContainerError(f"{what}: the code is not complete")


class _BitReader:
    """Bits of a cursor's bytes, for the few that a table of code lengths takes."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._window = self._left = 0

    def bit(self) -> int:
        if not self._left:
            self._window, self._left = self._cursor.byte(), 8
        self._left -= 1
        return self._window >> self._left & 1

    def number(self, width: int) -> int:
        value = 0
        for _ in range(width):
            value = value << 1 | self.bit()
        return value

    def gamma(self, limit: int) -> int:
        zeros = 0
        while self.bit() == 0:
            zeros += 1
            if zeros >= limit.bit_length():
                raise ContainerError(f"{self._cursor.what}: a run of letters without code leaves the alphabet")
        value = 1 << zeros | self.number(zeros)
        # "A run must not go beyond the alphabet"
        if value > limit:
            raise ContainerError(f"{self._cursor.what}: a run of letters without code leaves the alphabet")
        return value

    def finish(self) -> None:
        self._left = 0
