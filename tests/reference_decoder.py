"""A decoder of dcz containers in plain Python: slow, laid out as dcomp/container/FORMAT.md, and quoting it.

It shares no code with dcomp. What it cannot decode from that document alone, the document does not say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from zlib import crc32

import zstandard


class RejectedError(Exception):
    """A file that the format tells a decoder to reject."""


def must(condition: bool, sentence: str) -> None:
    if not condition:
        raise RejectedError(sentence)


# 6. Limits ("A decoder must reject a file beyond any of these.")

MAX_DIRECTORY_BYTES = 67108864
MAX_METADATA = 65536
MAX_TENSORS = 131072
MAX_RANK = 64
MAX_ELEMENTS = 1099511627776
MAX_DENSITY_CLASSES = 16
MAX_GAP_WIDTH = 16
MAX_GOLOMB_DIVISOR = 4096
MAX_GOLOMB_QUOTIENTS = 8
MAX_CODEBOOK_SIZE = 65536
MAX_PAIRED_ALPHABET = 256
MAX_CHAINED_ALPHABET = 1024
MAX_CHAINED_CODES = 16
MAX_LETTERS_PER_BIT = 16
MAX_CODE_LENGTH = 16
MIN_BLOCK_EXPONENT = 8
MAX_BLOCK_EXPONENT = 16
MAX_INDEX_WIDTH = 32

# 7. Numbers of the dtypes

DTYPES = "BOOL U8 I8 U16 I16 U32 I32 U64 I64 F16 BF16 F32 F64 C64 F8_E4M3 F8_E5M2 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ"
NAMES = DTYPES.split()
SIZES = [1, 1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4, 8, 8, 1, 1, 1, 1, 1]
ROTATED = {"F16", "BF16", "F32", "F64"}


# 1. Conventions


class Bytes:
    """Fields of whole bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def take(self, size: int) -> bytes:
        must(self.place + size <= len(self.data), "a field ends within its structure")
        self.place += size
        return self.data[self.place - size : self.place]

    def u8(self) -> int:
        return self.take(1)[0]

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def varint(self) -> int:
        value = 0
        for i in range(9):
            byte = self.u8()
            value += (byte & 127) << 7 * i
            if byte < 128:
                must(byte != 0 or i == 0, "its last byte is not zero unless it is the only one")
                return value
        raise RejectedError("it takes at most 9 bytes")

    def string(self) -> str:
        try:
            return self.take(self.varint()).decode()
        except UnicodeDecodeError as error:
            raise RejectedError("that many bytes of UTF-8; a decoder must reject others") from error

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.place)

    def end(self, sentence: str) -> None:
        must(self.place == len(self.data), sentence)


class Bits:
    """ "A bit string fills bytes from the most significant bit down." """

    def __init__(self, data: Bytes) -> None:
        self.data = data
        self.left = 0
        self.byte = 0

    def bit(self) -> int:
        if self.left == 0:
            self.byte, self.left = self.data.u8(), 8
        self.left -= 1
        return self.byte >> self.left & 1

    def number(self, width: int) -> int:
        value = 0
        for _ in range(width):
            value = 2 * value + self.bit()
        return value


def frame(data: bytes, size: int | None = None) -> bytes:
    """ "One Zstandard frame that states its content size and needs no dictionary, with nothing after it." """
    try:
        stated = zstandard.frame_content_size(data)
        must(stated >= 0 and (size is None or stated == size), "a frame states its content size")
        must(stated <= (MAX_DIRECTORY_BYTES if size is None else size), "MAX_DIRECTORY_BYTES")
        return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise RejectedError("one Zstandard frame") from error


# 2. File


@dataclass
class Tensor:
    dtype: str
    shape: tuple[int, ...]
    data: bytes  # the elements, row-major and little-endian


def decode(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a container."""
    file = Bytes(data)
    must(file.take(4) == b"\x89DCZ", "magic")
    must(file.u8() == 2, "version")
    flags = file.u8()
    must(flags <= 1, "other bits reserved")
    size = file.varint()
    must(size <= MAX_DIRECTORY_BYTES, "MAX_DIRECTORY_BYTES")
    stored = file.take(size)
    checked = crc32(data[: file.place])
    must(file.u32() == checked, "CRC-32 of everything before it")
    metadata, entries = directory(Bytes(frame(stored) if flags else stored))
    tensors: dict[str, Tensor] = {}
    for name, dtype, shape, record_size, last in entries:
        if record_size:
            record = file.take(record_size)
            must(crc32(record) == last, "CRC-32 of its record")
            tensors[name] = Tensor(NAMES[dtype], shape, decode_record(Bytes(record), dtype, shape))
        else:  # "A tied tensor has no record"
            must(last < len(tensors) and entries[last][3] > 0, "must stand before this one, must have a record")
            same = list(tensors.values())[last].data
            must(len(same) == prod(shape) * SIZES[dtype], "must be of a tensor of as many bytes")
            tensors[name] = Tensor(NAMES[dtype], shape, same)
    file.end("The last record must end where the file ends.")
    return tensors, metadata


# 3. Directory


def directory(data: Bytes) -> tuple[dict[str, str], list[tuple[str, int, tuple[int, ...], int, int]]]:
    metadata: dict[str, str] = {}
    count = data.varint()
    must(count <= MAX_METADATA, "MAX_METADATA")
    for _ in range(count):
        key = data.string()
        must(key not in metadata, "Keys of the metadata must differ from each other")
        metadata[key] = data.string()
    entries = []
    count = data.varint()
    must(count <= MAX_TENSORS, "MAX_TENSORS")
    for _ in range(count):
        name, dtype, rank = data.string(), data.u8(), data.u8()
        must(name not in [entry[0] for entry in entries], "and so must names of tensors")
        must(dtype < len(NAMES), "a number of section 7")
        must(rank <= MAX_RANK, "MAX_RANK")
        shape = tuple(data.varint() for _ in range(rank))
        must(prod(size for size in shape if size) <= MAX_ELEMENTS, "within the limit of elements")
        size = data.varint()
        entries.append((name, dtype, shape, size, data.u32() if size else data.varint()))
    data.end("The directory must end with the last entry.")
    return metadata, entries


# 4. Record


def decode_record(record: Bytes, dtype: int, shape: tuple[int, ...]) -> bytes:
    flags = record.u8()
    form = flags >> 1 & 3
    has_positions, in_planes = bool(flags & 1), bool(flags & 8)
    columns_first, has_classes = bool(flags & 16), bool(flags & 32)
    must(flags < 128, "other bits reserved")
    if flags & 64:
        must(form == 0 and record.u8() >= 4, "bits 1 and 2 must be 0, and the number that follows must be at least 4")
        must(False, "a form of a later version")
    must(form == 2 or not in_planes, "only if the form is shared")
    must(has_positions or not has_classes, "density classes, only with positions")
    must(len(shape) > 1 or not (columns_first or has_classes), "bits 4 and 5 must be 0 then")
    n = prod(shape)
    rows, columns = (shape[0], prod(shape[1:])) if len(shape) > 1 else (1, n)
    if columns_first:
        rows, columns = columns, rows
    apart = None
    positions: Sequence[int] = range(n)
    if has_positions:
        positions, apart = decode_positions(record, rows, columns, has_classes)
    values = decode_values(record, form, in_planes, dtype, len(positions), apart)
    record.end("The record must end with its values.")
    size = SIZES[dtype]
    elements = bytearray(n * size)  # "every other element is zero"
    for position, value in zip(positions, values, strict=True):
        if columns_first:  # "the matrix is transposed before all that follows"
            position = position % columns * rows + position // columns
        elements[position * size : (position + 1) * size] = value
    return bytes(elements)


# 4.1 Positions


def decode_positions(record: Bytes, rows: int, columns: int, has_classes: bool) -> tuple[list[int], list[bool]]:
    """Positions in the matrix, and whether the gap before each is not 0."""
    cells: list[Sequence[int]] = [range(rows * columns)]
    if has_classes:
        cells = decode_classes(record, rows, columns)
    left = rows * columns
    positions, apart = [], []
    for cell in cells:
        for place, gap in decode_cell(record, left, len(cell)):
            positions.append(cell[place])
            apart.append(gap > 0)
            left -= 1
    return positions, apart


def decode_classes(record: Bytes, rows: int, columns: int) -> list[Sequence[int]]:
    """For each cell its elements: their positions in the matrix."""
    r, c = record.u8(), record.u8()
    must(1 <= r <= MAX_DENSITY_CLASSES and 1 <= c <= MAX_DENSITY_CLASSES, "from 1 to the limit")
    must((r, c) != (1, 1), "not both may be 1")
    must(rows > 0 and columns > 0, "A matrix with classes must have at least one row and one column")
    class_of_row = decode_stream(record, rows, r) if r > 1 else [0] * rows
    class_of_column = decode_stream(record, columns, c) if c > 1 else [0] * columns
    return [
        [
            row * columns + column
            for row in range(rows)
            if class_of_row[row] == i
            for column in range(columns)
            if class_of_column[column] == j
        ]
        for i in range(r)
        for j in range(c)
    ]


def decode_cell(record: Bytes, e: int, elements: int) -> list[tuple[int, int]]:
    """Positions in the cell, each with its gap."""
    kept = record.varint()
    must(kept <= e, "kept must be at most e")
    if kept == 0:
        return []
    w = record.u8()
    must(w <= MAX_GAP_WIDTH, "w, at most the limit")
    filler, lengths = 2**w - 1, None
    if w == 0:
        d = record.varint()
        must(1 <= d <= MAX_GOLOMB_DIVISOR, "d, from 1 to the limit")
        lengths = golomb_code(d)
        filler = len(lengths) - 1
    fillers = record.varint()
    must(kept + fillers * filler <= e, "and kept + fillers x F too")
    symbols = decode_stream(record, kept + fillers, filler + 1, golomb_lengths=lengths)
    places, place, gap = [], 0, 0
    for symbol in symbols:
        place, gap = place + symbol, gap + symbol
        if symbol != filler:
            places.append((place, gap))
            place, gap = place + 1, 0
    must(len(places) == kept, "The symbols that are not fillers must number kept")
    must(symbols[-1] != filler, "the last symbol must not be a filler")
    must(places[-1][0] < elements, "All positions must lie in their cell.")
    return places


def golomb_code(d: int) -> list[int]:
    b = 0  # "the smallest number for which d <= 2^b"
    while d > 2**b:
        b += 1
    quotients = min(MAX_GOLOMB_QUOTIENTS, 16 - b)
    lengths = [g // d + (b if g % d < 2**b - d else b + 1) for g in range(quotients * d)]
    return [*lengths, quotients]  # "The filler has a code of Q bits."


# 4.2 Values


def decode_values(
    record: Bytes, form: int, codebook_in_planes: bool, dtype: int, m: int, apart: list[bool] | None
) -> list[bytes]:
    must(m > 0 or form == 0, "If m is 0, the form must be raw.")
    size = SIZES[dtype]
    if form == 0:
        return split(record.take(m * size), size)
    if form == 1:
        return split(frame(record.take(record.varint()), m * size), size)
    if form == 3:
        return decode_planes(record, dtype, m)
    k = record.varint()
    must(1 <= k <= MAX_CODEBOOK_SIZE, "from 1 to the limit")
    codebook = decode_planes(record, dtype, k) if codebook_in_planes else split(record.take(k * size), size)
    return [codebook[code] for code in decode_stream(record, m, k, apart=apart)]


def split(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


# 4.3 Planes


def decode_planes(record: Bytes, dtype: int, m: int) -> list[bytes]:
    planes = []  # "First the most significant byte of every element, then the next ones"
    for _ in range(SIZES[dtype]):
        form = record.u8()
        must(form <= 3, "others reserved")
        if form == 0:
            planes.append(record.take(m))
        elif form == 1:
            planes.append(frame(record.take(record.varint()), m))
        elif form == 2:
            planes.append(bytes(decode_stream(record, m, 256)))
        else:
            two = record.u8(), record.u8()
            must(two[0] < two[1], "the first byte must be less than the second")
            bits_of_plane = Bits(record)
            planes.append(bytes([two[bits_of_plane.bit()] for _ in range(m)]))
    elements = []
    bits = 8 * SIZES[dtype]
    for most_to_least in zip(*planes, strict=True):
        pattern = int.from_bytes(bytes(most_to_least), "big")
        if NAMES[dtype] in ROTATED:  # "each pattern is rotated left by one bit before"
            pattern = pattern >> 1 | (pattern & 1) << bits - 1
        elements.append(pattern.to_bytes(SIZES[dtype], "little"))
    return elements


# 5. Stream


def decode_stream(
    record: Bytes, s: int, alphabet: int, golomb_lengths: list[int] | None = None, apart: list[bool] | None = None
) -> list[int]:
    head = record.u8()
    block_size, model = head & 15, head >> 4
    must(model <= 2 and (model == 0 or golomb_lengths is None), "0 plain, 1 pairs, 2 chain; others reserved")
    count, letters, chained = s, alphabet, model == 2
    if model == 1:
        must(alphabet <= MAX_PAIRED_ALPHABET, "A must be within the limit of paired alphabets")
        count, letters = (s + 1) // 2, alphabet**2
    c = 1
    if chained:
        must(alphabet <= MAX_CHAINED_ALPHABET, "A must be within the limit of chained alphabets")
        c = record.u8()
        must(2 <= c <= MAX_CHAINED_CODES, "c, from 2 to the limit; only in a chain")
    bits = Bits(record)
    tables = [golomb_lengths if golomb_lengths is not None else decode_code_lengths(bits, letters) for _ in range(c)]
    lone = [[letter for letter in range(letters) if table[letter]] for table in tables]
    if not chained and len(lone[0]) == 1:
        must(block_size == 0, "and block size must be 0")
        return unpaired(lone[0] * count, alphabet, model, s)
    total = record.varint()
    must(total * (MAX_LETTERS_PER_BIT if chained else 1) >= count, "payload bits must be at least L; in a chain ...")
    must(block_size <= 9, "it must be from 1 to 9")
    if block_size == 0:
        must(count <= 2**MAX_BLOCK_EXPONENT, "L must be at most 2^16")
        counts = [count]
    else:
        counts = [min(2 ** (block_size + 7), count - start) for start in range(0, count, 2 ** (block_size + 7))]
        must(len(counts) > 1, "there must be at least two")
    block_bits = []
    if len(counts) > 1:
        shortest, b = record.varint(), record.u8()
        must(b <= MAX_INDEX_WIDTH, "MAX_INDEX_WIDTH")
        index = Bits(record)
        block_bits = [shortest + index.number(b) for _ in counts[1:]]
    block_bits.append(total - sum(block_bits))
    codes = [canonical_codes(table) for table in tables]
    payload = Bits(Bytes(record.take((total + 7) // 8)))
    symbols: list[int] = []
    for count, size in zip(counts, block_bits, strict=True):
        used = 0
        for place in range(count):
            chosen = 0
            if chained and place > 0:
                chosen = chain_code(symbols[-1], alphabet, c, None if apart is None else apart[len(symbols)])
            if chained and len(lone[chosen]) == 1:  # "In a chain a letter that alone has a code takes no bits."
                symbols.append(lone[chosen][0])
                continue
            code = length = 0
            while (length, code) not in codes[chosen]:
                code, length = 2 * code + payload.bit(), length + 1
            symbols.append(codes[chosen][length, code])
            used += length
        must(used == size, "Each block must end exactly where the next one starts")
    return unpaired(symbols, alphabet, model, s)


def unpaired(letters: list[int], alphabet: int, model: int, s: int) -> list[int]:
    """ "The letter x + A x y stands for the symbols x and then y." """
    if model != 1:
        return letters
    return [symbol for letter in letters for symbol in (letter % alphabet, letter // alphabet)][:s]


def chain_code(x: int, alphabet: int, c: int, apart: bool | None) -> int:
    if apart is None:
        return x * c // alphabet
    return 0 if apart else 1 + x * (c - 1) // alphabet


# 5.1 Code lengths


def decode_code_lengths(bits: Bits, alphabet: int) -> list[int]:
    lengths: list[int] = []
    previous = 0
    while len(lengths) < alphabet:
        ones = 0
        while ones < 4 and bits.bit():
            ones += 1
        if ones == 4:
            zeros = 0
            while not bits.bit():
                zeros += 1
                must(zeros < 64, "A run must not go beyond the alphabet")
            run = 2**zeros + bits.number(zeros)
            must(len(lengths) + run <= alphabet, "A run must not go beyond the alphabet")
            lengths += [0] * run
            continue
        if ones == 3:
            previous = bits.number(4) + 1
        else:
            must(previous > 0, "The first letter with a code must have its length written as 1110 vvvv")
            previous += (0, 1, 2)[ones] * (-1 if ones and bits.bit() else 1)
        must(1 <= previous <= MAX_CODE_LENGTH, "Lengths must lie between 1 and the limit")
        lengths.append(previous)
    present = [length for length in lengths if length]
    must(len(present) > 0, "at least one letter must have a code")
    if len(present) == 1:
        must(present == [1], "If exactly one letter has a code, its length must be 1.")
    else:
        must(sum(2**16 >> length for length in present) == 2**16, "the code is complete")
    return lengths


# 5.2 Codes


def canonical_codes(lengths: list[int]) -> dict[tuple[int, int], int]:
    """Letters by (length, code): "each next one is the one before plus one, followed by as many zeros ..." """
    codes = {}
    code = previous = 0
    for length, letter in sorted((length, letter) for letter, length in enumerate(lengths) if length):
        if previous:
            code = code + 1 << length - previous
        codes[length, code] = letter
        previous = length
    return codes
