"""Values as planes: form 3 (FORMAT.md, section 4.3).

A plane holds the bytes of the same significance of all elements, in its smallest form. In floats the sign is moved to
the end, so that the first plane holds the exponent: of trained weights it takes less than three bits, and the planes
after it are noise.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dcomp.coding import huffman, tuning
from dcomp.coding.level import Level
from dcomp.coding.raw import Raw
from dcomp.coding.sample import sampled
from dcomp.coding.stream import Stream
from dcomp.coding.values import Buffer, Symbols, Values, ValuesContext
from dcomp.coding.wire import Cursor
from dcomp.coding.zstd import Zstd
from dcomp.errors import ContainerError

BYTE = np.dtype(np.uint8)


@dataclass(frozen=True)
class HuffmanPlane(Values):
    """A plane of bytes as a stream."""

    stream: Stream

    @property
    def streams(self) -> Sequence[Stream]:
        """The stream."""
        return (self.stream,)

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return self.stream.nbytes

    def parts(self) -> Iterator[Buffer]:
        """Yield the stream."""
        yield self.stream.to_bytes()

    def patterns(self, symbols: Symbols) -> np.ndarray:
        """Return the stream's symbols."""
        return next(symbols)

    @classmethod
    def parse(cls, cursor: Cursor, context: ValuesContext) -> "HuffmanPlane":
        """Read a stream of bytes."""
        return cls(Stream.parse(cursor, context.count, 256))


@dataclass(frozen=True)
class BitPlane(Values):
    """A plane of two different bytes as bits: the plane of signs, where floats were widened from half their size."""

    letters: tuple[int, int]
    packed: np.ndarray
    count: int

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return 2 + self.packed.nbytes

    def parts(self) -> Iterator[Buffer]:
        """Yield the two bytes, the lower one first, and a bit for each byte of the plane."""
        yield bytes(self.letters)
        yield self.packed.data

    def patterns(self, symbols: Symbols) -> np.ndarray:
        """Return the byte that each bit stands for."""
        low, high = self.letters
        plane = np.unpackbits(self.packed, count=self.count)
        plane *= np.uint8(high - low)
        plane += np.uint8(low)
        return plane

    @classmethod
    def encode(cls, plane: np.ndarray) -> "BitPlane | None":
        """Encode a plane of bytes; return None unless it holds two different ones."""
        low, high = int(plane.min()), int(plane.max())
        is_high = plane == high
        if low == high or np.count_nonzero(plane == low) + np.count_nonzero(is_high) != plane.size:
            return None
        return cls((low, high), np.packbits(is_high), plane.size)

    @classmethod
    def parse(cls, cursor: Cursor, context: ValuesContext) -> "BitPlane":
        """Read the two bytes and the bits.

        Raises:
            ContainerError: they break the format.
        """
        low, high = cursor.byte(), cursor.byte()
        # "The first byte must be less than the second."
        if low >= high:
            raise ContainerError(f"{cursor.label}: a plane of the bytes {low} and {high}")
        return cls((low, high), np.frombuffer(cursor.take((context.count + 7) // 8), np.uint8), context.count)


PLANE_FORMS: tuple[type[Values], ...] = (Raw, Zstd, HuffmanPlane, BitPlane)


@dataclass(frozen=True)
class Planes(Values):
    """Planes of `count` elements, the most significant first."""

    COPIES: ClassVar[int] = 1

    planes: Sequence[Values]
    count: int
    dtype: np.dtype

    @property
    def streams(self) -> Sequence[Stream]:
        """The streams of all planes."""
        return [stream for plane in self.planes for stream in plane.streams]

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return sum(1 + plane.nbytes for plane in self.planes)

    def parts(self) -> Iterator[Buffer]:
        """Yield for each plane its form and its bytes."""
        for plane in self.planes:
            yield bytes([PLANE_FORMS.index(type(plane))])
            yield from plane.parts()

    def patterns(self, symbols: Symbols) -> np.ndarray:
        """Put the planes together."""
        planes = [plane.patterns(symbols) for plane in self.planes]
        patterns = np.empty(self.count, f"<u{len(planes)}")
        for begin in range(0, self.count, tuning.LOOKUP_CHUNK):
            part = patterns[begin : begin + tuning.LOOKUP_CHUNK]
            part[:] = _join_planes([plane[begin : begin + tuning.LOOKUP_CHUNK] for plane in planes])
            if has_exponent(self.dtype):
                sign = part << part.dtype.type(8 * len(planes) - 1)
                part >>= part.dtype.type(1)
                part |= sign
        return patterns

    @classmethod
    def encode(cls, patterns: np.ndarray, dtype: np.dtype, level: Level) -> "Planes":
        """Code each plane of patterns, shape (m,), m > 0, in the smallest of its forms."""
        planes = _split_into_planes(patterns, rotate=has_exponent(dtype))
        return cls([_smallest_plane(plane, level) for plane in planes], patterns.size, dtype)

    @classmethod
    def smaller(cls, patterns: np.ndarray, dtype: np.dtype, limit: int, level: Level) -> "Planes | None":
        """Encode patterns, shape (m,), m > 0; return None if that takes `limit` bytes or more."""
        planes = cls.encode(patterns, dtype, level)
        return planes if planes.nbytes < limit else None

    @classmethod
    def parse(cls, cursor: Cursor, context: ValuesContext) -> "Planes":
        """Read a plane for each byte of an element.

        Raises:
            ContainerError: they break the format.
        """
        planes: list[Values] = []
        for _ in range(context.dtype.itemsize):
            form = cursor.byte()
            if form >= len(PLANE_FORMS):
                raise ContainerError(f"{cursor.label}: a plane of the reserved form {form}")
            planes.append(PLANE_FORMS[form].parse(cursor, ValuesContext(context.count, BYTE)))
        return cls(planes, context.count, context.dtype)


def _split_into_planes(patterns: np.ndarray, *, rotate: bool) -> np.ndarray:
    """Return the planes of patterns, shape (width, m), uint8; rotated, the sign is the last bit."""
    width = patterns.itemsize
    planes = np.empty((width, patterns.size), np.uint8)
    for begin in range(0, patterns.size, tuning.LOOKUP_CHUNK):
        part = patterns[begin : begin + tuning.LOOKUP_CHUNK]
        if rotate:
            part = part << part.dtype.type(1) | part >> part.dtype.type(8 * width - 1)
        words = part.view(np.uint8).reshape(-1, width)
        for place in range(width):
            planes[place, begin : begin + part.size] = words[:, width - 1 - place]
    return planes


def _join_planes(planes: list[np.ndarray]) -> np.ndarray:
    """Return one plane of wider words, by joining neighbours; the most significant plane is first."""
    while len(planes) > 1:
        bits = 8 * planes[0].itemsize
        wider = np.dtype(f"<u{2 * planes[0].itemsize}")
        high = [plane.astype(wider) for plane in planes[::2]]
        for word, low in zip(high, planes[1::2], strict=True):
            word <<= wider.type(bits)
            word |= low
        planes = high
    return planes[0]


def has_exponent(dtype: np.dtype) -> bool:
    """Return whether elements are single floats of more than a byte: F16, BF16, F32, F64."""
    return dtype.itemsize > 1 and dtype.name in ("float16", "bfloat16", "float32", "float64")


def _smallest_plane(plane: np.ndarray, level: Level) -> Values:
    """Return the smallest form of a plane; a stream has to be smaller by a tenth than a form that decodes faster."""
    best: Values = Raw(plane)
    limit: float = plane.size  # of a stream
    is_large = plane.size >= tuning.SAMPLE_SIZE
    bits, letters = _sampled_bits(plane)
    is_noise = bits > tuning.NOISE_BITS if is_large else bits * plane.size + 2 * letters > 8 * plane.size
    if is_large and not is_noise and not level.exhaustive:
        fast = (BitPlane.encode(plane) if letters <= 2 else None) or Zstd.of_literals(plane)
        if fast.nbytes < plane.size:
            best, limit = fast, tuning.PLANE_STREAM_GAIN * fast.nbytes
    try_anyway = level.exhaustive and (not is_large or bits <= tuning.SURE_NOISE_BITS)
    if try_anyway or not (is_noise or bits * plane.size > 8 * limit):
        coded = HuffmanPlane(huffman.encode_stream(plane, 256))
        if coded.nbytes < limit:
            best = coded
    return Zstd.smaller(plane, BYTE, best.nbytes, level) or best


def _sampled_bits(plane: np.ndarray) -> tuple[float, int]:
    """Return about how many bits a byte of a plane takes in a stream, and how many bytes differ, by samples."""
    counts = np.bincount(plane[:: plane.size // tuning.SAMPLE_SIZE | 1])  # an odd step visits most columns
    letters = int(np.count_nonzero(counts))
    entropy = huffman.entropy_bits(counts) / counts.sum()
    if letters <= tuning.COUNTED_PAIR_LETTERS:
        runs = sampled(plane)
        pairs = np.bincount(runs[:-1].astype(np.uint16) << 8 | runs[1:])
        alone = huffman.entropy_bits(np.bincount(runs))
        entropy *= min(1, huffman.entropy_bits(pairs) / (2 * alone)) if alone else 1
    return entropy, letters
