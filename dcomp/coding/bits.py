"""Bit strings: fields of few bits, one after the other, most significant bit first."""

import numpy as np

from dcomp.coding import tuning

WORD = 64


class BitWriter:
    """A bit string of a fixed size, written from its start on.

    Neighbouring fields are joined, two and two, until a joined field may take up to 64 bits; then every 64-bit
    word is the union of the fields that start in it and the end of the one before.
    """

    def __init__(self, size: int) -> None:
        """Begin a bit string of `size` bits."""
        self._words = np.zeros(-(-size // WORD) + 2, np.uint64)
        self._size = size
        self._at = 0

    def append(self, values: np.ndarray, widths: np.ndarray, widest: int) -> None:
        """Write each value in its number of bits.

        Args:
            values: shape (n,), unsigned, each below 2^width.
            widths: shape (n,), unsigned.
            widest: no width is larger; at most 32.
        """
        if not values.size:
            return
        while widest * 2 <= WORD and values.size > 1:
            if values.size % 2:
                values, widths = np.append(values, values.dtype.type(0)), np.append(widths, widths.dtype.type(0))
            dtype = np.dtype(np.uint32 if widest * 2 <= 32 else np.uint64)
            later = widths[1::2].astype(dtype)
            joined = values[0::2].astype(dtype)
            joined <<= later
            joined |= values[1::2]
            later += widths[0::2]
            values, widths = joined, later
            widest *= 2
        ends = np.cumsum(widths, dtype=np.uint64)
        total = int(ends[-1])
        ends += np.uint64(self._at)
        ends -= widths
        starts = ends
        word = (starts >> np.uint64(6)).view(np.int64)
        bit = starts & np.uint64(63)
        left_aligned = values.astype(np.uint64) << (np.uint64(WORD) - widths)
        first_in_word = np.flatnonzero(word[1:] != word[:-1]) + 1
        groups = np.concatenate([[0], first_in_word])
        self._words[word[groups]] |= np.bitwise_or.reduceat(left_aligned >> bit, groups)
        crossing = np.flatnonzero(bit + widths > WORD)  # at most one field crosses the end of each word
        self._words[word[crossing] + 1] |= left_aligned[crossing] << (np.uint64(WORD) - bit[crossing])
        self._at += total

    def to_bytes(self) -> bytes:
        """Return the bytes; the last one is filled up with zero bits."""
        return self._words.astype(">u8").tobytes()[: (self._size + 7) // 8]


def pack(values: np.ndarray, widths: np.ndarray) -> bytes:
    """Write each value in its number of bits; the last byte is filled up with zero bits.

    Args:
        values: shape (n,), unsigned, each below 2^width.
        widths: shape (n,), from 1 to 32, the same for all or not.
    """
    if values.size <= tuning.FEW_FIELDS:
        word = size = 0
        for value, width in zip(values.tolist(), widths.tolist(), strict=True):
            word, size = word << width | value, size + width
        return (word << -size % 8).to_bytes((size + 7) // 8, "big")
    writer = BitWriter(int(widths.sum()))
    writer.append(values.astype(np.uint64), widths.astype(np.uint64), int(widths.max()))
    return writer.to_bytes()


def unpack(data: bytes | memoryview, width: int, count: int) -> np.ndarray:
    """Read `count` values of `width` bits each, 0 to 32; `data` has `width * count` bits or more. Shape (n,), int64."""
    values = np.zeros(count, np.int64)
    if width == 0:
        return values
    packed = np.frombuffer(data, np.uint8)
    weights = 1 << np.arange(width - 1, -1, -1, dtype=np.int64)
    for begin in range(0, count, tuning.UNPACK_CHUNK):
        part = values[begin : begin + tuning.UNPACK_CHUNK]
        bits = np.unpackbits(packed[begin * width // 8 :], count=part.size * width).reshape(part.size, width)
        np.matmul(bits.astype(np.int64), weights, out=part)
    return values
