"""Symbols <-> Huffman-coded streams, in blocks that decode in lock step (paper, section 4; FORMAT.md, section 5).

*Symbols* are unsigned integers below the size of their alphabet, shape (n,). A decoder keeps one bit position
for each block, a *lane*, and one numpy operation moves all lanes by a symbol: the Python loop is as long as a
block, not as the stream. Streams decoded together share that loop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dcomp.coding import bits, prefix_code
from dcomp.coding.limits import MAX_BLOCK_EXPONENT, MAX_INDEX_WIDTH, MIN_BLOCK_EXPONENT
from dcomp.coding.wire import Cursor, varint
from dcomp.errors import ContainerError

SMALLEST_BLOCK_EXPONENT = 9
MAX_INDEX_SHARE = 0.005
"""The block index takes at most this part of the payload."""

LONGEST_CODE = 12
"""What the encoder allows, where the alphabet does: tables of 4,096 entries stay in the fastest cache."""


@dataclass(frozen=True)
class Stream:
    """A coded sequence of symbols.

    Attributes:
        count: number of symbols, > 0.
        lengths: code length of each letter, shape (alphabet,).
        exponent: blocks have 2^exponent symbols, the last one what is left.
        block_bits: size of each block in bits, shape (blocks,); empty where a lone letter needs none.
        payload: the blocks, one after the other.
    """

    count: int
    lengths: np.ndarray
    exponent: int
    block_bits: np.ndarray
    payload: bytes | memoryview

    def to_bytes(self) -> bytes:
        """The stream as FORMAT.md, section 5, lays it out."""
        return self._bytes

    @cached_property
    def _bytes(self) -> bytes:
        parts: list[bytes | memoryview] = [prefix_code.write_lengths(self.lengths)]
        if self.block_bits.size:
            parts += [bytes([self.exponent]), varint(int(self.block_bits.sum())), _index(self.block_bits), self.payload]
        return b"".join(parts)

    @classmethod
    def parse(cls, cursor: Cursor, count: int, alphabet: int) -> "Stream":
        """Read a stream of `count` symbols.

        Raises:
            ContainerError: it breaks the format.
        """
        lengths = prefix_code.read_lengths(cursor, alphabet)
        if np.count_nonzero(lengths) == 1:
            return cls(count, lengths, 0, np.zeros(0, np.int64), b"")
        exponent = cursor.byte()
        if not MIN_BLOCK_EXPONENT <= exponent <= MAX_BLOCK_EXPONENT:
            raise ContainerError(f"{cursor.what}: blocks of 2^{exponent} symbols")
        blocks = -(-count >> exponent)
        # no symbol takes less than a bit: what is declared cannot be much larger than what is there
        total = cursor.varint(8 * cursor.remaining, "payload bits")
        if total < count:
            raise ContainerError(f"{cursor.what}: {count} symbols in {total} bits")
        block_bits = np.full(blocks, total)
        if blocks > 1:
            shortest = cursor.varint(total, "shortest block")
            width = cursor.byte()
            if width > MAX_INDEX_WIDTH:
                raise ContainerError(f"{cursor.what}: index entries of {width} bits")
            index = cursor.take(((blocks - 1) * width + 7) // 8)
            block_bits[:-1] = bits.unpack(index, width, blocks - 1) + shortest
            block_bits[-1] -= block_bits[:-1].sum()
            if block_bits[-1] < 1:
                raise ContainerError(f"{cursor.what}: the blocks are longer than the payload")
        return cls(count, lengths, exponent, block_bits, cursor.take((total + 7) // 8))


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


def code_lengths(counts: np.ndarray) -> np.ndarray:
    """The code lengths that `encode` gives to letters that occur so often, shape (alphabet,)."""
    longest = max(LONGEST_CODE, min(16, int(np.count_nonzero(counts) - 1).bit_length() + 2))
    return prefix_code.optimal_lengths(counts, longest)


def encode(symbols: np.ndarray, lengths: np.ndarray) -> Stream:
    """Code symbols with the code that `lengths` describes.

    Args:
        symbols: shape (n,), n > 0; letters that have a code.
        lengths: as made by `code_lengths`, shape (alphabet,).
    """
    if np.count_nonzero(lengths) == 1:
        return Stream(symbols.size, lengths, 0, np.zeros(0, np.int64), b"")
    widths = lengths[symbols]
    payload = bits.pack(prefix_code.codes(lengths)[symbols], widths)
    exponent, block_bits = _cut(widths)
    return Stream(symbols.size, lengths, exponent, block_bits, payload)


def _cut(widths: np.ndarray) -> tuple[int, np.ndarray]:
    """The smallest blocks whose index is small enough, and their sizes in bits."""
    block_bits = np.add.reduceat(widths, np.arange(0, widths.size, 1 << SMALLEST_BLOCK_EXPONENT), dtype=np.int64)
    payload_bits = int(block_bits.sum())
    for exponent in range(SMALLEST_BLOCK_EXPONENT, MAX_BLOCK_EXPONENT):
        if block_bits.size == 1:
            return exponent, block_bits
        _, width = _index_shape(block_bits)
        if width * (block_bits.size - 1) <= MAX_INDEX_SHARE * payload_bits:
            return exponent, block_bits
        block_bits = np.add.reduceat(block_bits, np.arange(0, block_bits.size, 2))
    return MAX_BLOCK_EXPONENT, block_bits


def decode(streams: Sequence[Stream]) -> list[np.ndarray]:
    """Decode streams together; for each its symbols, shape (count,), uint16 or uint32.

    Raises:
        ContainerError: a block does not end where the next one starts.
    """
    decoded: list[np.ndarray] = [np.zeros(0, np.uint16)] * len(streams)
    batches: dict[int, list[int]] = {}
    for i, stream in enumerate(streams):
        if stream.block_bits.size == 0:
            letter = np.flatnonzero(stream.lengths)[0].astype(np.uint16)
            decoded[i] = np.broadcast_to(letter, stream.count)  # its memory is one symbol, whatever its count
        else:  # streams whose blocks are about as long go in one batch
            batches.setdefault(min(stream.count, 1 << stream.exponent).bit_length(), []).append(i)
    for members in batches.values():
        for i, symbols in zip(members, _decode_batch([streams[i] for i in members]), strict=True):
            decoded[i] = symbols
    return decoded


def _decode_batch(streams: Sequence[Stream]) -> list[np.ndarray]:
    """Lock-step decoding of streams that have payloads."""
    tables = [prefix_code.decoding_table(stream.lengths) for stream in streams]
    entries = np.concatenate(tables)
    table_starts = np.cumsum([0, *(table.size for table in tables[:-1])])
    payload = b"".join([*(stream.payload for stream in streams), bytes(8)])
    payload_starts = np.cumsum([0, *(8 * len(stream.payload) for stream in streams[:-1])])
    lanes = [stream.block_bits.size for stream in streams]

    ends = np.concatenate([start + np.cumsum(s.block_bits) for start, s in zip(payload_starts, streams, strict=True)])
    starts = ends - np.concatenate([stream.block_bits for stream in streams])
    counts = np.concatenate([_block_counts(stream) for stream in streams])
    order = np.argsort(-counts, kind="stable")  # lanes that are done are always the last ones
    positions = starts[order]
    matrix = _run(
        positions,
        counts[order],
        _windows(payload),
        entries,
        np.repeat(table_starts, lanes)[order] if len(streams) > 1 else 0,
        np.repeat([33 - table.size.bit_length() for table in tables], lanes)[order].astype(np.uint32),
    )
    if not np.array_equal(positions, ends[order]):
        raise ContainerError("a block of a stream does not end where the next one starts")
    columns = np.split(np.argsort(order), np.cumsum(lanes)[:-1])
    return [
        np.ascontiguousarray(matrix[:, own].T).reshape(-1)[: stream.count]
        for own, stream in zip(columns, streams, strict=True)
    ]


def _block_counts(stream: Stream) -> np.ndarray:
    counts = np.full(stream.block_bits.size, 1 << stream.exponent)
    counts[-1] = stream.count - (counts.size - 1 << stream.exponent)
    return counts


def _windows(payload: bytes) -> np.ndarray:
    """The 32 bits from each 16-bit boundary on: a code of up to 16 bits lies within one of them."""
    halves = np.frombuffer(payload[: len(payload) // 2 * 2], ">u2").astype(np.uint32)
    return halves[:-1] << 16 | halves[1:]


def _run(
    positions: np.ndarray,
    counts: np.ndarray,
    windows: np.ndarray,
    entries: np.ndarray,
    table_starts: np.ndarray | int,
    shifts: np.ndarray,
) -> np.ndarray:
    """Advance every lane by its count of symbols; `positions` move in place. Symbols, shape (steps, lanes)."""
    steps = int(counts[0])
    matrix = np.zeros((steps, counts.size), entries.dtype)
    active = np.searchsorted(-counts, -np.arange(steps), side="left")
    for step in range(steps):
        lanes = slice(0, active[step])
        position = positions[lanes]
        window = windows.take(position >> 4, mode="clip")  # damaged streams may run past the end
        index = window << (position & 15).astype(np.uint32) >> shifts[lanes]
        starts = table_starts[lanes] if isinstance(table_starts, np.ndarray) else 0
        found = entries.take(index + starts)
        matrix[step, lanes] = found
        position += found & 31
    matrix >>= prefix_code.LENGTH_BITS
    return matrix
