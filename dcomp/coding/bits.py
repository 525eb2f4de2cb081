"""Bit strings: fields of few bits, one after the other, most significant bit first."""

import numpy as np

WORD = 64


def pack(values: np.ndarray, widths: np.ndarray) -> bytes:
    """Write each value in its number of bits; the last byte is filled up with zero bits.

    Neighbours are joined, two and two, until a joined field may take up to 64 bits; then every 64-bit
    word of the output is the union of the fields that start in it and the end of the one before.

    Args:
        values: shape (n,), unsigned, each below 2^width.
        widths: shape (n,), from 1 to 32, the same for all or not.
    """
    if values.size == 0:
        return b""
    widest = int(widths.max())
    values, widths = values.astype(np.uint64), widths.astype(np.uint64)
    while widest * 2 <= WORD and values.size > 1:
        if values.size % 2:
            values, widths = np.append(values, np.uint64(0)), np.append(widths, np.uint64(0))
        values = (values[0::2] << widths[1::2]) | values[1::2]
        widths = widths[0::2] + widths[1::2]
        widest *= 2
    ends = np.cumsum(widths)
    starts = ends - widths
    word, bit = (starts >> np.uint64(6)).astype(np.intp), starts & np.uint64(63)
    left_aligned = values << (np.uint64(WORD) - widths)
    first_in_word = np.flatnonzero(np.diff(word, prepend=-1))
    packed = np.zeros(word[-1] + 2, np.uint64)
    packed[: word[-1] + 1] = np.bitwise_or.reduceat(left_aligned >> bit, first_in_word)
    crossing = np.flatnonzero(bit + widths > WORD)  # at most one field crosses the end of each word
    packed[word[crossing] + 1] |= left_aligned[crossing] << (np.uint64(WORD) - bit[crossing])
    return packed.astype(">u8").tobytes()[: (int(ends[-1]) + 7) // 8]


def unpack(data: bytes | memoryview, width: int, count: int) -> np.ndarray:
    """Read `count` values of `width` bits each, 0 to 32; `data` holds at least so many bits. Shape (n,), int64."""
    if width == 0:
        return np.zeros(count, np.int64)
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=count * width).reshape(count, width)
    return bits.astype(np.int64) @ (1 << np.arange(width - 1, -1, -1, dtype=np.int64))
