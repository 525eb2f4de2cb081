"""Huffman-coded streams -> symbols, all blocks at the same time (FORMAT.md, section 5).

A decoder keeps one bit position and a few bits ahead of it for each block, a *lane*, and one numpy operation moves
all lanes by a letter: the Python loop is as long as a block, not as the stream. Small streams share that loop.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dcomp.coding import prefix_code, tuning
from dcomp.coding.stream import Model, Stream, next_codes
from dcomp.errors import ContainerError

LENGTH_BITS = 5
CHAIN_BITS = 4
"""A table entry is `output << 5 | length`, or `output << 9 | next code << 5 | length` if a stream is chained."""

WINDOW_BITS = 49
"""Bits that a lane has ahead at least when its window has just been filled: 64, from the last 16-bit boundary on."""


Decoded = np.ndarray | ContainerError


def memory(streams: Iterable[Stream]) -> int:
    """Estimate the bytes that decoding streams together takes: the streams, and the tables that exist at once."""
    sizes = [(stream.memory, stream.table_entries) for stream in streams]
    entries = [stream_entries for _, stream_entries in sizes]
    tables = max([min(tuning.SHARED_TABLE_ENTRIES, sum(entries)), *entries])
    return sum(nbytes for nbytes, _ in sizes) + tuning.TABLE_ENTRY_BYTES * tables


def decode_streams(streams: Sequence[Stream], follows: Sequence[np.ndarray | None] | None = None) -> list[np.ndarray]:
    """Decode streams together; return the symbols of each, as `decode_each_stream` does.

    Raises:
        ContainerError: a block does not end where the next one starts.
    """
    decoded = []
    for symbols in decode_each_stream(streams, follows):
        if isinstance(symbols, ContainerError):
            raise symbols
        decoded.append(symbols)
    return decoded


def decode_each_stream(streams: Sequence[Stream], follows: Sequence[np.ndarray | None] | None = None) -> list[Decoded]:
    """Decode streams together; return the symbols of each, or a ContainerError if a block ends at a wrong place.

    Args:
        streams: in any order.
        follows: for each stream whose symbols may stand apart, which of them are neighbours of the one before.

    Returns:
        symbols, shape (count,), uint8 where the alphabet allows, else uint16.
    """
    decoded: list[Decoded] = [np.zeros(0, np.uint8)] * len(streams)
    alike: dict[tuple[int, int], list[int]] = {}
    for i, stream in enumerate(streams):
        if stream.block_bits.size == 0:
            decoded[i] = _repeated(stream)
        else:  # streams whose blocks are about as long share a loop
            alone = i + 1 if _decodes_alone(stream) else 0
            alike.setdefault((alone, _block_size(stream).bit_length()), []).append(i)
    for members in (loop for group in alike.values() for loop in _loops(streams, group)):
        apart = [follows[i] if follows is not None and streams[i].apart else None for i in members]
        for i, symbols in zip(members, _decode_loop([streams[i] for i in members], apart), strict=True):
            decoded[i] = symbols
    return decoded


def _decodes_alone(stream: Stream) -> bool:
    """Return whether a stream is so large that it does not share its loop."""
    return stream.letters >= tuning.LONE_STREAM_LETTERS and stream.block_bits.size >= tuning.LONE_STREAM_BLOCKS


def _loops(streams: Sequence[Stream], group: Sequence[int]) -> Iterator[list[int]]:
    """Divide a group of streams into loops, so that the tables of no loop are too large."""
    members: list[int] = []
    entries = 0
    for i in group:
        more = streams[i].table_entries
        if members and entries + more > tuning.SHARED_TABLE_ENTRIES:
            yield members
            members, entries = [], 0
        members.append(i)
        entries += more
    yield members


def _repeated(stream: Stream) -> np.ndarray:
    """Return the symbols of a stream whose lone letter takes no bits, in the memory of one letter."""
    letter = int(np.flatnonzero(stream.lengths[0])[0])
    dtype = np.uint8 if stream.alphabet <= 256 else np.uint16
    second, first = divmod(letter, stream.alphabet)
    if stream.model is Model.PAIRS and first != second:
        return np.resize(np.array([first, second], dtype), stream.count)
    return np.broadcast_to(dtype(first), stream.count)


def _block_size(stream: Stream) -> int:
    return min(stream.letters, 1 << stream.exponent) if stream.exponent else stream.letters


def _decode_loop(streams: Sequence[Stream], follows: Sequence[np.ndarray | None]) -> list[Decoded]:
    """Decode streams that have payloads in one loop."""
    tables = _Tables.of(streams)
    payload = b"".join([*(stream.payload for stream in streams), bytes(16)])
    payload_starts = np.cumsum([0, *(8 * len(stream.payload) for stream in streams[:-1])])
    lanes = [stream.block_bits.size for stream in streams]
    ends = np.concatenate([start + np.cumsum(s.block_bits) for start, s in zip(payload_starts, streams, strict=True)])
    starts = ends - np.concatenate([stream.block_bits for stream in streams])
    counts = np.concatenate([_block_counts(stream) for stream in streams])
    is_single = len(streams) == 1
    table_starts = None if is_single else np.repeat(tables.starts, lanes)
    lane_bits = None if is_single or np.ptp(tables.bits) == 0 else np.repeat(tables.bits, lanes)

    order = np.argsort(-counts, kind="stable")  # lanes that are done are always the last ones
    steps = int(counts.max())
    apart = _apart(streams, follows, steps) if any(neighbours is not None for neighbours in follows) else None
    per_part = max(1, tuning.DECODED_LETTERS // steps)
    parts = []
    is_wrong = np.zeros(order.size, bool)
    for begin in range(0, order.size, per_part):
        part = order[begin : begin + per_part]
        first_byte = int(starts[part].min()) // 16 * 2
        last_byte = int(ends[part].max()) // 8 + 16
        windows = _windows(payload[first_byte:last_byte])
        positions = starts[part] - 8 * first_byte
        matrix = _run(
            positions,
            counts[part],
            windows,
            tables,
            None if table_starts is None else table_starts[part],
            None if lane_bits is None else lane_bits[part],
            None if apart is None else np.ascontiguousarray(apart[part].T),
            steps,
        )
        is_wrong[begin : begin + part.size] = positions + 8 * first_byte != ends[part]
        parts.append(matrix)
    columns = np.split(np.argsort(order), np.cumsum(lanes)[:-1])
    return [
        ContainerError("a block of a stream does not end where the next one starts")
        if is_wrong[lanes_of].any()
        else _symbols(stream, parts, lanes_of, tables.shift)
        for stream, lanes_of in zip(streams, columns, strict=True)
    ]


def _apart(streams: Sequence[Stream], follows: Sequence[np.ndarray | None], steps: int) -> np.ndarray:
    """Return which symbols do not depend on the one before; shape (lanes, steps)."""
    lanes = sum(stream.block_bits.size for stream in streams)
    apart = np.zeros((lanes, steps), bool)
    lane = 0
    for stream, neighbours in zip(streams, follows, strict=True):
        blocks, size = stream.block_bits.size, _block_size(stream)
        if neighbours is not None:
            padded = np.zeros(blocks * size, bool)
            np.logical_not(neighbours, out=padded[: neighbours.size])
            apart[lane : lane + blocks, :size] = padded.reshape(blocks, size)
        lane += blocks
    return apart


def _symbols(stream: Stream, parts: list[np.ndarray], columns: np.ndarray, shift: int) -> np.ndarray:
    """Join the lanes of a stream, which are columns of the parts; letters begin at bit `shift`."""
    per_part = parts[0].shape[1]
    block = _block_size(stream)
    letters = np.uint16 if stream.model is Model.PAIRS or stream.alphabet > 256 else np.uint8
    symbols = np.empty((columns.size, block), letters)
    for begin in range(0, columns.size, tuning.TRANSPOSED_LANES):
        tile = columns[begin : begin + tuning.TRANSPOSED_LANES]
        part, column = divmod(int(tile[0]), per_part)
        if tile[-1] - tile[0] == tile.size - 1 and column + tile.size <= per_part:
            lanes = parts[part][:block, column : column + tile.size]
        else:
            lanes = np.stack([parts[lane // per_part][:block, lane % per_part] for lane in tile.tolist()], axis=1)
        symbols[begin : begin + tuning.TRANSPOSED_LANES] = (lanes >> shift).astype(letters).T
    flat = symbols.reshape(-1)
    return flat.view(np.uint8)[: stream.count] if stream.model is Model.PAIRS else flat[: stream.count]


def _block_counts(stream: Stream) -> np.ndarray:
    block = _block_size(stream)
    counts = np.full(stream.block_bits.size, block)
    counts[-1] = stream.letters - (counts.size - 1) * block
    return counts


def _windows(payload: bytes) -> np.ndarray:
    """Return the 64 bits from each 16-bit boundary on."""
    halves = np.frombuffer(payload[: len(payload) // 2 * 2], ">u2")
    windows = np.empty(halves.size - 3, np.uint64)
    for begin in range(0, windows.size, tuning.LOOKUP_CHUNK):
        part = windows[begin : begin + tuning.LOOKUP_CHUNK]
        part[:] = halves[begin : begin + part.size]
        for place in (1, 2, 3):
            part <<= np.uint64(16)
            part |= halves[begin + place : begin + place + part.size].astype(np.uint64)
    return windows


@dataclass(frozen=True)
class _Tables:
    """Decoding tables of the streams of a loop, one after the other.

    Attributes:
        entries: a letter and its bits, for each string of as many bits as the stream looks up at a time.
        starts: where each stream's first table starts in `entries`.
        bits: number of bits that each stream looks up at a time, the length of its longest code.
        chained: whether entries hold the code of the next symbol.
    """

    entries: np.ndarray
    starts: np.ndarray
    bits: np.ndarray
    chained: bool

    @property
    def shift(self) -> int:
        """The bit at which an entry's output begins."""
        return LENGTH_BITS + CHAIN_BITS if self.chained else LENGTH_BITS

    @classmethod
    def of(cls, streams: Sequence[Stream]) -> "_Tables":
        chained = any(stream.model is Model.CHAINED for stream in streams)
        bits = np.array([stream.longest for stream in streams])
        codes = [_entries(stream, lengths, chained) for stream in streams for lengths in stream.lengths]
        dtype = np.uint16 if max(int(entries.max()) for _, entries in codes) < 1 << 16 else np.uint32
        sizes = [stream.table_entries for stream in streams]
        starts = np.cumsum([0, *sizes[:-1]])
        table = np.empty(sum(sizes), dtype)
        widths = np.repeat(bits, [len(stream.lengths) for stream in streams]).tolist()
        begin = 0
        for (lengths, entries), width in zip(codes, widths, strict=True):
            table[begin : begin + (1 << width)] = prefix_code.decoding_table(lengths, entries.astype(dtype), width)
            begin += 1 << width
        return cls(table, starts, bits, chained)


def _entries(stream: Stream, lengths: np.ndarray, chained: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the code lengths of the letters of one code, ascending, and the entry of each in a table."""
    present = np.flatnonzero(lengths != 0)
    letters: np.ndarray = present.astype(np.uint32)
    if stream.model is Model.PAIRS:
        letters = letters % stream.alphabet | letters // stream.alphabet << 8
    if chained:
        letters <<= CHAIN_BITS
        if stream.model is Model.CHAINED:
            following = next_codes(stream.alphabet, len(stream.lengths), apart=stream.apart)
            letters |= following[present].astype(np.uint32)
    present_lengths = lengths[present]
    widths = present_lengths if present.size > 1 else 0  # a letter that alone has a code takes no bits
    return present_lengths, letters << LENGTH_BITS | widths


def _run(
    positions: np.ndarray,
    counts: np.ndarray,
    windows: np.ndarray,
    tables: _Tables,
    table_starts: np.ndarray | None,
    lane_bits: np.ndarray | None,
    apart: np.ndarray | None,
    steps: int,
) -> np.ndarray:
    """Advance every lane by its count of letters, descending; `positions` move in place. Shape (steps, lanes).

    Lanes look up `lane_bits` at a time; without it, all look up the same number.
    """
    matrix = np.empty((steps, counts.size), tables.entries.dtype)
    refill_after = WINDOW_BITS // int(tables.bits.max())
    lane_bits = tables.bits[:1] if lane_bits is None else lane_bits
    lane_shifts = (64 - lane_bits).astype(np.uint64)
    ahead, index, letter_bits = np.empty((3, counts.size), np.uint64)
    chain = np.zeros(counts.size, np.int64)
    begin = 0
    for lanes, end in _phases(counts):
        position, window, at, width = positions[:lanes], ahead[:lanes], index[:lanes], letter_bits[:lanes]
        place, lane_chain = at.view(np.int64), chain[:lanes]
        start = None if table_starts is None else table_starts[:lanes]
        shift, code_bits = lane_shifts[:lanes], lane_bits[:lanes]
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
                np.left_shift(lane_chain, code_bits, out=lane_chain)
        begin = end
    return matrix


def _phases(counts: np.ndarray) -> list[tuple[int, int]]:
    """Return pairs (lanes, step): up to that step, that number of lanes run; counts descend."""
    lasts = np.append(np.flatnonzero(counts[1:] != counts[:-1]), counts.size - 1)
    return [(int(last) + 1, int(counts[last])) for last in reversed(lasts)]
