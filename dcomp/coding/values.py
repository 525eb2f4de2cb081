"""Element patterns <-> bytes: the values of a record (FORMAT.md, section 4.2).

*Patterns* are the elements as unsigned integers, shape (m,). Each form below tells which Huffman streams it holds, so
that those of many tensors can be decoded in one go, and makes its patterns from their symbols.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import zstandard

from dcomp.coding import huffman
from dcomp.coding.huffman import Stream
from dcomp.coding.limits import MAX_CODEBOOK_SIZE
from dcomp.coding.wire import Cursor, varint
from dcomp.errors import ContainerError

ZSTD_LEVEL = 9
SAMPLE = 1 << 17
"""Elements or bytes that are looked at before all of them are."""

Symbols = Iterator[np.ndarray]


class Values(Protocol):
    """The values of a record, in one of the forms below."""

    @property
    def streams(self) -> Sequence[Stream]:
        """The streams whose symbols `patterns` takes, in order."""

    def to_bytes(self) -> bytes:
        """The values as FORMAT.md lays them out."""

    def patterns(self, symbols: Symbols) -> np.ndarray:
        """The patterns, shape (m,).

        Raises:
            ContainerError: damaged data.
        """


@dataclass(frozen=True)
class Raw:
    """Patterns as they are."""

    data: np.ndarray
    streams: Sequence[Stream] = ()

    def to_bytes(self) -> bytes:
        """The elements, little-endian."""
        return self.data.tobytes()

    def patterns(self, symbols: Symbols) -> np.ndarray:
        """The patterns; nothing is copied."""
        return self.data

    @classmethod
    def parse(cls, cursor: Cursor, count: int, itemsize: int) -> "Raw":
        """Read `count` elements."""
        return cls(np.frombuffer(cursor.take(count * itemsize), f"<u{itemsize}"))


@dataclass(frozen=True)
class Zstd:
    """A Zstandard frame of the patterns' bytes."""

    frame: bytes | memoryview
    count: int
    itemsize: int
    streams: Sequence[Stream] = ()

    def to_bytes(self) -> bytes:
        """The size of the frame, and the frame."""
        return varint(len(self.frame)) + bytes(self.frame)

    def patterns(self, symbols: Symbols) -> np.ndarray:
        """The patterns, decompressed."""
        try:
            data = zstandard.ZstdDecompressor().decompress(self.frame, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise ContainerError(f"damaged Zstandard frame: {error}") from error
        return np.frombuffer(data, f"<u{self.itemsize}")

    @classmethod
    def parse(cls, cursor: Cursor, count: int, itemsize: int) -> "Zstd":
        """Read a frame that holds `count` elements.

        Raises:
            ContainerError: no frame, or of another content size.
        """
        frame = cursor.take(cursor.varint(cursor.remaining, "size of a Zstandard frame"))
        try:
            size = zstandard.frame_content_size(frame)
        except zstandard.ZstdError as error:
            raise ContainerError(f"{cursor.what}: not a Zstandard frame") from error
        if size != count * itemsize:
            raise ContainerError(f"{cursor.what}: a Zstandard frame of {size} bytes, {count * itemsize} expected")
        return cls(frame, count, itemsize)

    @classmethod
    def smaller(cls, patterns: np.ndarray, limit: int) -> "Zstd | None":
        """A frame of the patterns if it takes fewer bytes than `limit`; of many bytes, some are tried first."""
        compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
        data = patterns.view(np.uint8)
        if data.size > 8 * SAMPLE:
            sample = np.concatenate([part[: SAMPLE // 8] for part in np.array_split(data, 8)])
            if len(compressor.compress(sample.data)) * data.size > 1.1 * limit * sample.size:
                return None
        made = cls(compressor.compress(data.data), patterns.size, patterns.itemsize)
        return made if len(made.to_bytes()) < limit else None


@dataclass(frozen=True)
class Huffman:
    """A plane of bytes as a stream."""

    stream: Stream

    @property
    def streams(self) -> Sequence[Stream]:
        """The stream."""
        return (self.stream,)

    def to_bytes(self) -> bytes:
        """The stream."""
        return self.stream.to_bytes()

    def patterns(self, symbols: Symbols) -> np.ndarray:
        """The stream's symbols."""
        return next(symbols).astype(np.uint8)

    @classmethod
    def parse(cls, cursor: Cursor, count: int, itemsize: int) -> "Huffman":
        """Read a stream of `count` bytes."""
        return cls(Stream.parse(cursor, count, 1 << 8 * itemsize))


PLANE_FORMS: tuple[type[Raw] | type[Zstd] | type[Huffman], ...] = (Raw, Zstd, Huffman)


@dataclass(frozen=True)
class Planes:
    """Bytes of the same significance together, most significant first; a float's exponent is made whole before."""

    planes: Sequence[Raw | Zstd | Huffman]
    count: int
    dtype: np.dtype

    @property
    def streams(self) -> Sequence[Stream]:
        """The streams of all planes."""
        return [stream for plane in self.planes for stream in plane.streams]

    def to_bytes(self) -> bytes:
        """For each plane its form and its bytes."""
        return b"".join(bytes([PLANE_FORMS.index(type(plane))]) + plane.to_bytes() for plane in self.planes)

    def patterns(self, symbols: Symbols) -> np.ndarray:
        """The planes put together."""
        width = len(self.planes)
        words = np.empty((self.count, width), np.uint8)
        for place, plane in enumerate(self.planes):
            words[:, width - 1 - place] = plane.patterns(symbols)
        rotated = words.reshape(-1).view(f"<u{width}")
        return _rotate(rotated, -1) if _has_exponent(self.dtype) else rotated

    @classmethod
    def encode(cls, patterns: np.ndarray, dtype: np.dtype) -> "Planes":
        """Code each plane in the smallest of its forms."""
        rotated = _rotate(patterns, 1) if _has_exponent(dtype) else patterns
        width = patterns.itemsize
        words = rotated.view(np.uint8).reshape(-1, width)
        planes = [_smallest_plane(np.ascontiguousarray(words[:, i])) for i in range(width - 1, -1, -1)]
        return cls(planes, patterns.size, dtype)

    @classmethod
    def parse(cls, cursor: Cursor, count: int, dtype: np.dtype) -> "Planes":
        """Read `count` elements.

        Raises:
            ContainerError: they break the format.
        """
        planes: list[Raw | Zstd | Huffman] = []
        for _ in range(dtype.itemsize):
            form = cursor.byte()
            if form >= len(PLANE_FORMS):
                raise ContainerError(f"{cursor.what}: a plane of the reserved form {form}")
            planes.append(PLANE_FORMS[form].parse(cursor, count, 1))
        return cls(planes, count, dtype)


def _has_exponent(dtype: np.dtype) -> bool:
    """Whether elements are single floats of more than a byte: F16, BF16, F32, F64."""
    return dtype.itemsize > 1 and dtype.name in ("float16", "bfloat16", "float32", "float64")


def _rotate(patterns: np.ndarray, left: int) -> np.ndarray:
    """Patterns rotated by one bit: to the left, the sign goes from the first bit to the last."""
    last = 8 * patterns.itemsize - 1
    return patterns << 1 | patterns >> last if left > 0 else patterns >> 1 | patterns << last


def _smallest_plane(plane: np.ndarray) -> Raw | Zstd | Huffman:
    best: Raw | Zstd | Huffman = Raw(plane)
    size = plane.size
    counts = np.bincount(plane, minlength=256)
    lengths = huffman.code_lengths(counts)
    if int(counts @ lengths.astype(np.int64)) < 8 * size:
        coded = Huffman(huffman.encode(plane, lengths))
        if (coded_size := len(coded.to_bytes())) < size:
            best, size = coded, coded_size
    return Zstd.smaller(plane, size) or best


@dataclass(frozen=True)
class Shared:
    """Values as codes into a codebook of k patterns."""

    codebook: Raw | Planes
    size: int
    codes: Stream

    @property
    def streams(self) -> Sequence[Stream]:
        """Those of the codebook, and the codes."""
        return [*self.codebook.streams, self.codes]

    def to_bytes(self) -> bytes:
        """The size of the codebook, the codebook, and the codes."""
        return varint(self.size) + self.codebook.to_bytes() + self.codes.to_bytes()

    def patterns(self, symbols: Symbols) -> np.ndarray:
        """The codebook's entry for each code."""
        codebook = self.codebook.patterns(symbols)
        return codebook[next(symbols)]

    @classmethod
    def encode(cls, codebook: np.ndarray, codes: np.ndarray, dtype: np.dtype) -> "Shared":
        """Code values that a codebook was found for.

        Args:
            codebook: patterns, shape (k,), in any order.
            codes: shape (m,), each below k.
            dtype: of the elements; the codebook ascends by it in the file.
        """
        order = np.argsort(_ascending(codebook, dtype))
        rank = np.empty(codebook.size, np.uint16)
        rank[order] = np.arange(codebook.size)
        codes = rank[codes]
        stream = huffman.encode(codes, huffman.code_lengths(np.bincount(codes, minlength=codebook.size)))
        raw, planes = Raw(codebook[order]), Planes.encode(codebook[order], dtype)
        smaller = planes if len(planes.to_bytes()) < len(raw.to_bytes()) else raw
        return cls(smaller, codebook.size, stream)

    @classmethod
    def parse(cls, cursor: Cursor, count: int, dtype: np.dtype, *, planes: bool) -> "Shared":
        """Read `count` elements whose codebook is in planes, or raw.

        Raises:
            ContainerError: they break the format.
        """
        size = cursor.varint(MAX_CODEBOOK_SIZE, "codebook size")
        if size == 0:
            raise ContainerError(f"{cursor.what}: an empty codebook")
        codebook = Planes.parse(cursor, size, dtype) if planes else Raw.parse(cursor, size, dtype.itemsize)
        return cls(codebook, size, Stream.parse(cursor, count, size))


Form = Raw | Zstd | Shared | Planes


def _ascending(codebook: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Unsigned keys that ascend as the elements do: IEEE 754's total order for floats."""
    sign = codebook.dtype.type(1 << 8 * dtype.itemsize - 1)
    if dtype.kind in "ubc":
        return codebook
    if dtype.kind == "i":
        return codebook ^ sign
    return np.where(codebook & sign, ~codebook, codebook | sign)


def find_codebook(patterns: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The distinct patterns, ascending, and the code of each element; None if there are too many to share.

    A sample usually holds all values of a codebook; what it misses is added afterwards, without sorting everything.

    Args:
        patterns: shape (m,).
    """
    most = min(MAX_CODEBOOK_SIZE, patterns.size // 2)
    if most == 0:
        return None
    codebook = np.unique(patterns[:: -(-patterns.size // SAMPLE)])
    while codebook.size <= most:
        codes = np.searchsorted(codebook, patterns).astype(np.uint32)
        np.minimum(codes, codebook.size - 1, out=codes)
        missed = patterns[codebook[codes] != patterns]
        if missed.size == 0:
            return codebook, codes
        codebook = np.union1d(codebook, missed)
    return None


def encode(patterns: np.ndarray, dtype: np.dtype, found: tuple[np.ndarray, np.ndarray] | None = None) -> Form:
    """The smallest form of the patterns.

    Args:
        patterns: shape (m,).
        dtype: of the elements.
        found: what `find_codebook` gave, if it was asked already.
    """
    best: Form = Raw(patterns)
    if patterns.size == 0:
        return best
    size = patterns.nbytes
    found = found or find_codebook(patterns)
    if found is not None:
        shared = Shared.encode(*found, dtype)
        if (shared_size := len(shared.to_bytes())) < size:
            best, size = shared, shared_size
    if size > patterns.nbytes // 2 or patterns.size <= SAMPLE:  # planes rarely halve anything: worth a try if cheap
        planes = Planes.encode(patterns, dtype)
        if (planes_size := len(planes.to_bytes())) < size:
            best, size = planes, planes_size
    return Zstd.smaller(patterns, size) or best
