"""Huffman-coded streams -> symbols, all blocks at the same time (FORMAT.md, section 5).

A decoder keeps one bit position and a few bits ahead of it for each block, a *lane*, and one numpy operation moves
all lanes by a letter: the Python loop is as long as a block, not as the stream. Small streams share that loop.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dcomp.coding import prefix_code
from dcomp.coding.lookup import CHUNK
from dcomp.coding.stream import Model, Stream, next_codes, widths_of
from dcomp.errors import ContainerError

LENGTH_BITS = 5
CHAIN_BITS = 4
"""A table entry is `output << 5 | length`, or `output << 9 | next code << 5 | length` if a stream is chained."""

WINDOW_BITS = 49
"""Bits that a lane surely has ahead when it has just been filled: 64, from the last 16-bit boundary on."""

ALONE = 1 << 20
"""A stream of so many letters does not share its loop; its own table stays in the fastest cache."""

TILE = 128
"""Lanes that are put in order at a time; they stay in the caches."""

MATRIX = 1 << 23
"""Letters that are decoded at a time."""


def decode(streams: Sequence[Stream], follows: Sequence[np.ndarray | None] | None = None) -> list[np.ndarray]:
    """Decode streams together; for each its symbols, shape (count,), uint8 where the alphabet allows, else uint16.

    Args:
        streams: in any order.
        follows: for each stream that keeps symbols apart, which of them are neighbours of the one before.

    Raises:
        ContainerError: a block does not end where the next one starts.
    """
    decoded: list[np.ndarray] = [np.zeros(0, np.uint8)] * len(streams)
    batches: dict[tuple[int, int], list[int]] = {}
    for i, stream in enumerate(streams):
        if stream.block_bits.size == 0:
            decoded[i] = _repeated(stream)
        else:  # streams whose blocks are about as long go in one batch
            alone = i + 1 if stream.letters >= ALONE else 0
            batches.setdefault((alone, _block_size(stream).bit_length()), []).append(i)
    for members in batches.values():
        apart = [follows[i] if follows is not None and streams[i].apart else None for i in members]
        for i, symbols in zip(members, _decode_batch([streams[i] for i in members], apart), strict=True):
            decoded[i] = symbols
    return decoded


def _repeated(stream: Stream) -> np.ndarray:
    """The symbols of a stream whose lone letter takes no bits; their memory is one letter, whatever their count."""
    letter = int(np.flatnonzero(stream.lengths[0])[0])
    dtype = np.uint8 if stream.alphabet <= 256 else np.uint16
    second, first = divmod(letter, stream.alphabet)
    if stream.model is Model.PAIRS and first != second:
        return np.resize(np.array([first, second], dtype), stream.count)
    return np.broadcast_to(dtype(first), stream.count)


def _block_size(stream: Stream) -> int:
    return min(stream.letters, 1 << stream.exponent) if stream.exponent else stream.letters


def _decode_batch(streams: Sequence[Stream], follows: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """Lock-step decoding of streams that have payloads."""
    tables = _Tables.of(streams)
    payload = b"".join([*(stream.payload for stream in streams), bytes(16)])
    payload_starts = np.cumsum([0, *(8 * len(stream.payload) for stream in streams[:-1])])
    lanes = [stream.block_bits.size for stream in streams]
    ends = np.concatenate([start + np.cumsum(s.block_bits) for start, s in zip(payload_starts, streams, strict=True)])
    starts = ends - np.concatenate([stream.block_bits for stream in streams])
    counts = np.concatenate([_block_counts(stream) for stream in streams])
    table_starts = np.repeat(tables.starts, lanes) if len(streams) > 1 else None

    order = np.argsort(-counts, kind="stable")  # lanes that are done are always the last ones
    steps = int(counts.max())
    apart = _apart(streams, follows, steps) if any(own is not None for own in follows) else None
    per_part = max(1, MATRIX // steps)
    parts = []
    for begin in range(0, order.size, per_part):
        own = order[begin : begin + per_part]
        first_byte = int(starts[own].min()) // 16 * 2
        last_byte = int(ends[own].max()) // 8 + 16
        windows = _windows(payload[first_byte:last_byte])
        positions = starts[own] - 8 * first_byte
        matrix = _run(
            positions,
            counts[own],
            windows,
            tables,
            None if table_starts is None else table_starts[own],
            None if apart is None else np.ascontiguousarray(apart[own].T),
            steps,
        )
        if not np.array_equal(positions + 8 * first_byte, ends[own]):
            raise ContainerError("a block of a stream does not end where the next one starts")
        parts.append(matrix)
    columns = np.split(np.argsort(order), np.cumsum(lanes)[:-1])
    return [_symbols(stream, parts, own, tables.shift) for stream, own in zip(streams, columns, strict=True)]


def _apart(streams: Sequence[Stream], follows: Sequence[np.ndarray | None], steps: int) -> np.ndarray:
    """Which symbols do not depend on the one before; shape (lanes, steps)."""
    lanes = sum(stream.block_bits.size for stream in streams)
    apart = np.zeros((lanes, steps), bool)
    lane = 0
    for stream, own in zip(streams, follows, strict=True):
        blocks, size = stream.block_bits.size, _block_size(stream)
        if own is not None:
            padded = np.zeros(blocks * size, bool)
            np.logical_not(own, out=padded[: own.size])
            apart[lane : lane + blocks, :size] = padded.reshape(blocks, size)
        lane += blocks
    return apart


def _symbols(stream: Stream, parts: list[np.ndarray], own: np.ndarray, shift: int) -> np.ndarray:
    """Put the lanes of a stream, columns `own` of all parts, one after the other; letters begin at bit `shift`."""
    per_part = parts[0].shape[1]
    block = _block_size(stream)
    letters = np.uint16 if stream.model is Model.PAIRS or stream.alphabet > 256 else np.uint8
    symbols = np.empty((own.size, block), letters)
    for begin in range(0, own.size, TILE):
        tile = own[begin : begin + TILE]
        part, column = divmod(int(tile[0]), per_part)
        if tile[-1] - tile[0] == tile.size - 1 and column + tile.size <= per_part:
            lanes = parts[part][:block, column : column + tile.size]
        else:
            lanes = np.stack([parts[lane // per_part][:block, lane % per_part] for lane in tile.tolist()], axis=1)
        symbols[begin : begin + TILE] = (lanes >> shift).astype(letters).T
    flat = symbols.reshape(-1)
    return flat.view(np.uint8)[: stream.count] if stream.model is Model.PAIRS else flat[: stream.count]


def _block_counts(stream: Stream) -> np.ndarray:
    block = _block_size(stream)
    counts = np.full(stream.block_bits.size, block)
    counts[-1] = stream.letters - (counts.size - 1) * block
    return counts


def _windows(payload: bytes) -> np.ndarray:
    """The 64 bits from each 16-bit boundary on."""
    halves = np.frombuffer(payload[: len(payload) // 2 * 2], ">u2")
    windows = np.empty(halves.size - 3, np.uint64)
    for begin in range(0, windows.size, CHUNK):
        part = windows[begin : begin + CHUNK]
        part[:] = halves[begin : begin + part.size]
        for place in (1, 2, 3):
            part <<= np.uint64(16)
            part |= halves[begin + place : begin + place + part.size].astype(np.uint64)
    return windows


@dataclass(frozen=True)
class _Tables:
    """Decoding tables of a batch, one after the other.

    Attributes:
        entries: what a letter is and takes, for each string of `index_bits` bits.
        starts: where each stream's first table starts in `entries`.
        index_bits: bits that are looked up at a time.
        chained: whether entries tell the next symbol's table.
    """

    entries: np.ndarray
    starts: np.ndarray
    index_bits: int
    chained: bool

    @property
    def shift(self) -> int:
        """The bit at which an entry's output begins."""
        return LENGTH_BITS + CHAIN_BITS if self.chained else LENGTH_BITS

    @classmethod
    def of(cls, streams: Sequence[Stream]) -> "_Tables":
        chained = any(stream.model is Model.CHAINED for stream in streams)
        index_bits = max(int(stream.lengths.max()) for stream in streams)
        tables = [_table(stream, index_bits, chained) for stream in streams]
        starts = np.cumsum([0, *(table.size for table in tables[:-1])])
        entries = np.concatenate(tables)
        if entries.max() < 1 << 16:
            entries = entries.astype(np.uint16)
        return cls(entries, starts, index_bits, chained)


def _table(stream: Stream, index_bits: int, chained: bool) -> np.ndarray:
    widths = widths_of(stream.lengths)
    letters: np.ndarray = np.arange(widths.shape[1], dtype=np.uint32)
    if stream.model is Model.PAIRS:
        letters = letters % stream.alphabet | letters // stream.alphabet << 8
    if chained:
        letters <<= CHAIN_BITS
        if stream.model is Model.CHAINED:
            letters |= next_codes(stream.alphabet, len(widths), apart=stream.apart).astype(np.uint32)
    entries = letters << LENGTH_BITS | widths
    return np.concatenate(
        [prefix_code.decoding_table(*row, index_bits) for row in zip(stream.lengths, entries, strict=True)]
    )


def _run(
    positions: np.ndarray,
    counts: np.ndarray,
    windows: np.ndarray,
    tables: _Tables,
    table_starts: np.ndarray | None,
    apart: np.ndarray | None,
    steps: int,
) -> np.ndarray:
    """Advance every lane by its count of letters, descending; `positions` move in place. Shape (steps, lanes)."""
    matrix = np.empty((steps, counts.size), tables.entries.dtype)
    refill_after = WINDOW_BITS // tables.index_bits
    shift = np.uint64(64 - tables.index_bits)
    ahead, index, taken = np.empty((3, counts.size), np.uint64)
    chain = np.zeros(counts.size, np.int64)
    begin = 0
    for lanes, end in _phases(counts):
        position, window, at, width = positions[:lanes], ahead[:lanes], index[:lanes], taken[:lanes]
        place, lane_chain = at.view(np.int64), chain[:lanes]
        start = None if table_starts is None else table_starts[:lanes]
        for step in range(begin, end):
            if (step - begin) % refill_after == 0:
                np.right_shift(position, 4, out=place)
                windows.take(place, out=window, mode="clip")  # damaged streams may run past the end
                np.bitwise_and(position, 15, out=place)
                np.left_shift(window, at, out=window)
            np.right_shift(window, shift, out=at)
            if start is not None:
                np.add(place, start, out=place)
            if tables.chained:
                if apart is not None:
                    lane_chain[apart[step, :lanes]] = 0
                np.add(place, lane_chain, out=place)
            row = matrix[step, :lanes]
            tables.entries.take(place, out=row, mode="clip")
            np.bitwise_and(row, 31, out=width)
            np.left_shift(window, width, out=window)
            np.add(position, width.view(np.int64), out=position)
            if tables.chained:
                np.right_shift(row, LENGTH_BITS, out=lane_chain)
                np.bitwise_and(lane_chain, (1 << CHAIN_BITS) - 1, out=lane_chain)
                np.left_shift(lane_chain, tables.index_bits, out=lane_chain)
        begin = end
    return matrix


def _phases(counts: np.ndarray) -> list[tuple[int, int]]:
    """(lanes, step): so many lanes run up to that step; counts descend."""
    lasts = np.append(np.flatnonzero(counts[1:] != counts[:-1]), counts.size - 1)
    return [(int(last) + 1, int(counts[last])) for last in reversed(lasts)]
