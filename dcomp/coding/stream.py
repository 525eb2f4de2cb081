"""A Huffman-coded sequence of symbols <-> bytes (FORMAT.md, section 5).

*Symbols* are unsigned integers below the size of their alphabet. A stream codes *letters*: the symbols themselves,
or pairs of them, or symbols whose code the symbol before chooses. `huffman` encodes streams, `lockstep` decodes them.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np

from dcomp.coding import bits, prefix_code, tuning
from dcomp.coding.limits import (
    MAX_BLOCK_EXPONENT,
    MAX_CHAINED_ALPHABET,
    MAX_CHAINED_CODES,
    MAX_INDEX_WIDTH,
    MAX_LETTERS_PER_BIT,
    MAX_PAIRED_ALPHABET,
    MIN_BLOCK_EXPONENT,
)
from dcomp.coding.wire import Cursor, varint
from dcomp.errors import ContainerError


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
        implicit_code: whether a decoder has the code from elsewhere; it is not in the stream.
        apart: of a chain, whether its first code is that of symbols that have no neighbour before them.
        read_sizes: bytes of its code lengths, and of all of it, in the file that it was read from; None if it is new.
    """

    count: int
    alphabet: int
    model: Model
    lengths: np.ndarray
    exponent: int
    block_bits: np.ndarray
    payload: bytes | memoryview
    implicit_code: bool = False
    apart: bool = False
    read_sizes: tuple[int, int] | None = None

    @property
    def letters(self) -> int:
        """Number of letters that are coded."""
        return _letter_count(self.count, self.model)

    @property
    def memory(self) -> int:
        """About how many bytes of memory it takes to hold and decode the stream, decoding tables aside."""
        windows = tuning.WINDOW_BYTES * len(self.payload)
        symbols = tuning.SYMBOL_BYTES * self.count // 2 + max(tuning.SYMBOL_BYTES * self.count // 2, windows)
        return tuning.STREAM_BYTES + self.lengths.nbytes + tuning.BLOCK_BYTES * self.block_bits.size + symbols

    @cached_property
    def longest(self) -> int:
        """Bits of the longest code of a letter."""
        return int(self.lengths.max())

    @property
    def table_entries(self) -> int:
        """Entries of its decoding tables: for each code one for each string of as many bits as the longest has."""
        return len(self.lengths) << self.longest if self.block_bits.size else 0

    @property
    def nbytes(self) -> int:
        """Size in the file; another encoder may have written the same stream in more bytes, or in fewer."""
        return len(self._bytes) if self.read_sizes is None else self.read_sizes[1]

    @property
    def table_nbytes(self) -> int:
        """Size of its code lengths in the file."""
        if self.read_sizes is not None:
            return self.read_sizes[0]
        return 0 if self.implicit_code else len(prefix_code.write_lengths(self.lengths))

    def to_bytes(self) -> bytes:
        """Return the stream as FORMAT.md, section 5, specifies it."""
        return self._bytes

    @cached_property
    def _bytes(self) -> bytes:
        blocks = self.exponent - MIN_BLOCK_EXPONENT + 1 if self.exponent else 0
        parts: list[bytes | memoryview] = [bytes([blocks | self.model << 4])]
        if self.model is Model.CHAINED:
            parts.append(bytes([len(self.lengths)]))
        if not self.implicit_code:
            parts.append(prefix_code.write_lengths(self.lengths))
        if self.block_bits.size:
            parts += [varint(int(self.block_bits.sum())), _index(self.block_bits), self.payload]
        return b"".join(parts)

    @classmethod
    def parse(
        cls,
        cursor: Cursor,
        count: int,
        alphabet: int,
        *,
        implicit_lengths: np.ndarray | None = None,
        apart: bool = False,
    ) -> "Stream":
        """Read a stream of `count` symbols.

        Args:
            cursor: at its first byte.
            count: number of symbols.
            alphabet: number of different symbols there might be.
            implicit_lengths: its code lengths, where the stream does not hold them, shape (alphabet,).
            apart: whether, if it is a chain, its first code is that of symbols without a neighbour before them.

        Raises:
            ContainerError: it breaks the format.
        """
        begin = cursor.offset
        model, exponent = _parse_head(cursor, last_model=Model.CHAINED if implicit_lengths is None else Model.PLAIN)
        codes, letters = _parse_codes(cursor, model, alphabet)
        table_begin = cursor.offset
        if implicit_lengths is None:
            lengths = prefix_code.read_lengths(cursor, codes, letters)
        else:
            lengths = implicit_lengths[None]
        table_nbytes = cursor.offset - table_begin
        coded = _letter_count(count, model)
        if exponent and coded <= 1 << exponent:
            raise ContainerError(f"{cursor.label}: {coded} letters in blocks of 2^{exponent}")
        block_bits: np.ndarray = np.zeros(0, np.int64)
        payload: bytes | memoryview = b""
        if model is Model.CHAINED or np.count_nonzero(lengths != 0) > 1:
            block_bits, payload = _parse_blocks(cursor, coded, exponent, model)
        elif exponent:
            raise ContainerError(f"{cursor.label}: blocks where letters take no bits")
        implicit, apart = implicit_lengths is not None, apart and model is Model.CHAINED
        sizes = table_nbytes, cursor.offset - begin
        return cls(count, alphabet, model, lengths, exponent, block_bits, payload, implicit, apart, sizes)


def _parse_head(cursor: Cursor, *, last_model: Model) -> tuple[Model, int]:
    """Read the model of a stream, up to `last_model`, and the exponent of its blocks, 0 if there is one."""
    head = cursor.byte()
    blocks_field, model_number = head & 15, head >> 4
    exponent = blocks_field + MIN_BLOCK_EXPONENT - 1 if blocks_field else 0
    if exponent > MAX_BLOCK_EXPONENT or model_number > last_model:
        raise ContainerError(f"{cursor.label}: a stream begins with the reserved value {head:#04x}")
    return Model(model_number), exponent


def _parse_codes(cursor: Cursor, model: Model, alphabet: int) -> tuple[int, int]:
    """Read how many codes a stream has; return that, and over how many letters each code is."""
    if model is Model.PAIRS:
        if alphabet > MAX_PAIRED_ALPHABET:
            raise ContainerError(f"{cursor.label}: pairs over an alphabet of {alphabet} letters")
        return 1, alphabet * alphabet
    if model is Model.PLAIN:
        return 1, alphabet
    codes = cursor.byte()
    if not 2 <= codes <= MAX_CHAINED_CODES or alphabet > MAX_CHAINED_ALPHABET:
        raise ContainerError(f"{cursor.label}: a chain of {codes} codes over {alphabet} letters")
    return codes, alphabet


def _parse_blocks(cursor: Cursor, letters: int, exponent: int, model: Model) -> tuple[np.ndarray, memoryview]:
    """Read the sizes of a stream's blocks in bits, and its payload."""
    if not exponent and letters > 1 << MAX_BLOCK_EXPONENT:
        raise ContainerError(f"{cursor.label}: {letters} letters in one block")
    total = cursor.varint(8 * cursor.remaining, "payload bits")
    if total < fewest_bits(letters, model):
        # a small file must not claim a huge stream
        raise ContainerError(f"{cursor.label}: {letters} letters in {total} bits")
    blocks = -(-letters >> exponent) if exponent else 1
    block_bits = np.full(blocks, total)
    if blocks > 1:
        shortest = cursor.varint(total, "shortest block")
        width = cursor.byte()
        if width > MAX_INDEX_WIDTH:
            raise ContainerError(f"{cursor.label}: index entries of {width} bits")
        index = cursor.take(((blocks - 1) * width + 7) // 8)
        block_bits[:-1] = bits.unpack(index, width, blocks - 1) + shortest
        block_bits[-1] -= block_bits[:-1].sum()
        if block_bits[-1] < 0:
            raise ContainerError(f"{cursor.label}: the blocks are longer than the payload")
    return block_bits, cursor.take((total + 7) // 8)


def fewest_bits(letters: int, model: Model) -> int:
    """Return the fewest bits that letters may take; single letters of a chain may take none."""
    return -(-letters // MAX_LETTERS_PER_BIT) if model is Model.CHAINED else letters


def _letter_count(symbols: int, model: Model) -> int:
    return (symbols + 1) // 2 if model is Model.PAIRS else symbols


def _index(block_bits: np.ndarray) -> bytes:
    """Return the fields `shortest`, `index width` and `index`."""
    if block_bits.size == 1:
        return b""
    shortest, width = index_shape(block_bits)
    entries = block_bits[:-1] - shortest
    packed = bits.pack(entries, np.full(entries.size, width)) if width else b""
    return varint(shortest) + bytes([width]) + packed


def index_shape(block_bits: np.ndarray) -> tuple[int, int]:
    """Return the size in bits of the shortest block but the last, and the bits of an entry of the index."""
    shortest = int(block_bits[:-1].min())
    return shortest, (int(block_bits[:-1].max()) - shortest).bit_length()


def widths_of(lengths: np.ndarray) -> np.ndarray:
    """Return the bits of each letter: its code's, none where a code has one letter; uint32, shape (codes, letters)."""
    widths = lengths.astype(np.uint32)
    widths[np.count_nonzero(lengths != 0, axis=1) == 1] = 0
    return widths


def next_codes(alphabet: int, codes: int, *, apart: bool) -> np.ndarray:
    """Return the code that each symbol chooses for the next one, by its class; shape (alphabet,).

    There are as many classes as codes, or one less where the first code is for symbols apart.
    """
    return np.arange(alphabet) * (codes - apart) // alphabet + apart
