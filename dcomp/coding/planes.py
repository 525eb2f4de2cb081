"""Elements as planes: their bytes of the same significance together, each plane in its smallest form (FORMAT.md, 4.3).

In floats the sign is moved to the end, so that the first plane holds the exponent: of trained weights it takes less
than three bits, and the planes after it are noise.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dcomp.coding import huffman
from dcomp.coding.level import Level
from dcomp.coding.lookup import CHUNK
from dcomp.coding.plain import SAMPLE, Buffer, Raw, Symbols, Zstd, sampled
from dcomp.coding.stream import Stream
from dcomp.coding.wire import Cursor
from dcomp.errors import ContainerError

SURE_NOISE = 7.99
NOISE = 7.95
"""A sample of a plane with more bits a byte than this is surely not worth a code, or probably not."""

WORTH_ITS_TIME = 0.9
"""A stream of a plane has to be smaller by this factor than a form that decodes several times as fast."""

FEW_LETTERS = 48
"""Different bytes up to which pairs of them are few enough to be counted in a sample."""


@dataclass(frozen=True)
class Huffman:
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
        """The stream."""
        yield self.stream.to_bytes()

    def patterns(self, symbols: Symbols) -> np.ndarray:
        """The stream's symbols."""
        return next(symbols)

    @classmethod
    def parse(cls, cursor: Cursor, count: int, itemsize: int) -> "Huffman":
        """Read a stream of `count` bytes."""
        return cls(Stream.parse(cursor, count, 1 << 8 * itemsize))


@dataclass(frozen=True)
class Bits:
    """A plane of two different bytes as bits: that of the signs, where floats were widened from half their size."""

    letters: tuple[int, int]
    packed: np.ndarray
    count: int
    streams: Sequence[Stream] = ()

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return 2 + self.packed.nbytes

    def parts(self) -> Iterator[Buffer]:
        """The two bytes, the lower one first, and a bit for each byte of the plane."""
        yield bytes(self.letters)
        yield self.packed.data

    def patterns(self, symbols: Symbols) -> np.ndarray:
        """The byte that each bit stands for."""
        low, high = self.letters
        plane = np.unpackbits(self.packed, count=self.count)
        plane *= np.uint8(high - low)
        plane += np.uint8(low)
        return plane

    @classmethod
    def encode(cls, plane: np.ndarray) -> "Bits | None":
        """The plane, if it holds two different bytes."""
        low, high = int(plane.min()), int(plane.max())
        is_high = plane == high
        if low == high or np.count_nonzero(plane == low) + np.count_nonzero(is_high) != plane.size:
            return None
        return cls((low, high), np.packbits(is_high), plane.size)

    @classmethod
    def parse(cls, cursor: Cursor, count: int, itemsize: int) -> "Bits":
        """Read `count` bits.

        Raises:
            ContainerError: they break the format.
        """
        low, high = cursor.byte(), cursor.byte()
        # "The first byte must be less than the second."
        if low >= high:
            raise ContainerError(f"{cursor.what}: a plane of the bytes {low} and {high}")
        return cls((low, high), np.frombuffer(cursor.take((count + 7) // 8), np.uint8), count)


Plane = Raw | Zstd | Huffman | Bits
PLANE_FORMS: tuple[type[Raw] | type[Zstd] | type[Huffman] | type[Bits], ...] = (Raw, Zstd, Huffman, Bits)


@dataclass(frozen=True)
class Planes:
    """Planes of `count` elements, the most significant first."""

    planes: Sequence[Plane]
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
        """For each plane its form and its bytes."""
        for plane in self.planes:
            yield bytes([PLANE_FORMS.index(type(plane))])
            yield from plane.parts()

    def patterns(self, symbols: Symbols) -> np.ndarray:
        """The planes put together."""
        planes = [plane.patterns(symbols) for plane in self.planes]
        together = np.empty(self.count, f"<u{len(planes)}")
        for begin in range(0, self.count, CHUNK):
            part = together[begin : begin + CHUNK]
            part[:] = _joined([plane[begin : begin + CHUNK] for plane in planes])
            if has_exponent(self.dtype):
                sign = part << part.dtype.type(8 * len(planes) - 1)
                part >>= part.dtype.type(1)
                part |= sign
        return together

    @classmethod
    def encode(cls, patterns: np.ndarray, dtype: np.dtype, level: Level) -> "Planes":
        """Code each plane in the smallest of its forms."""
        width = patterns.itemsize
        planes = np.empty((width, patterns.size), np.uint8)
        for begin in range(0, patterns.size, CHUNK):
            part = patterns[begin : begin + CHUNK]
            if has_exponent(dtype):
                part = part << part.dtype.type(1) | part >> part.dtype.type(8 * width - 1)
            words = part.view(np.uint8).reshape(-1, width)
            for place in range(width):
                planes[place, begin : begin + part.size] = words[:, width - 1 - place]
        return cls([_smallest_plane(plane, level) for plane in planes], patterns.size, dtype)

    @classmethod
    def parse(cls, cursor: Cursor, count: int, dtype: np.dtype) -> "Planes":
        """Read `count` elements.

        Raises:
            ContainerError: they break the format.
        """
        planes: list[Plane] = []
        for _ in range(dtype.itemsize):
            form = cursor.byte()
            if form >= len(PLANE_FORMS):
                raise ContainerError(f"{cursor.what}: a plane of the reserved form {form}")
            planes.append(PLANE_FORMS[form].parse(cursor, count, 1))
        return cls(planes, count, dtype)


def _joined(planes: list[np.ndarray]) -> np.ndarray:
    """One plane of wider words from all, the most significant first: neighbours are joined, two and two."""
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
    """Whether elements are single floats of more than a byte: F16, BF16, F32, F64."""
    return dtype.itemsize > 1 and dtype.name in ("float16", "bfloat16", "float32", "float64")


def _smallest_plane(plane: np.ndarray, level: Level) -> Plane:
    """The smallest form of a plane; a stream has to be smaller by a tenth than a form that decodes faster."""
    best: Plane = Raw(plane)
    size, gain = plane.size, 1.0
    promise, letters = _promise(plane)
    is_noise = promise > NOISE if plane.size >= SAMPLE else promise * size + 2 * letters > 8 * size
    if not is_noise and plane.size >= SAMPLE and not level.exhaustive:
        fast = (Bits.encode(plane) if letters <= 2 else None) or Zstd.of_literals(plane)
        if fast.nbytes < size:
            best, size, gain = fast, fast.nbytes, WORTH_ITS_TIME
    try_all = level.exhaustive and (plane.size < SAMPLE or promise <= SURE_NOISE)
    if try_all or not (is_noise or promise * plane.size > 8 * gain * size):
        coded = Huffman(huffman.encode_stream(plane, 256))
        if coded.nbytes < gain * size:
            best, size = coded, coded.nbytes
    return Zstd.smaller(plane, size, level.zstd, exhaustive=level.exhaustive) or best


def _promise(plane: np.ndarray) -> tuple[float, int]:
    """About how many bits a byte of a plane takes in a stream, and how many bytes differ; by samples if it is large."""
    counts = np.bincount(plane[:: plane.size // SAMPLE | 1])  # an odd step visits all columns of most matrices
    letters = int(np.count_nonzero(counts))
    entropy = huffman.entropy_bits(counts) / counts.sum()
    if letters <= FEW_LETTERS:
        runs = sampled(plane)
        pairs = np.bincount(runs[:-1].astype(np.uint16) << 8 | runs[1:])
        alone = huffman.entropy_bits(np.bincount(runs))
        entropy *= min(1, huffman.entropy_bits(pairs) / (2 * alone)) if alone else 1
    return entropy, letters
