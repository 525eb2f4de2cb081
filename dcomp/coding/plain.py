"""Elements stored as they are, or as a Zstandard frame (FORMAT.md, sections 4.2 and 4.3)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import zstandard

from dcomp.coding.stream import Stream
from dcomp.coding.wire import Cursor, varint
from dcomp.errors import ContainerError

SAMPLE_PARTS = 8
SAMPLE = 1 << 15
"""Elements or bytes that are looked at, in parts, before all of them are."""

SMALL, SMALL_LEVEL = 1 << 16, 3
"""Bytes up to which a high level is mostly the time it takes to begin."""

NOISE = 0.99
"""A sample that comes to more than this part of its size is not worth a frame."""

LARGE = 1 << 20
SURELY, PERHAPS = 0.97, 1.1
"""What a sample has to promise, of the size to beat: of so many bytes a gain, of fewer about the same size."""

PROBE_LEVEL, PROBE_WINDOW = 1, 23
"""How all bytes are compressed fast, to see what is worth a high level: far repetitions show nowhere else."""

PROBABLY = 0.99
"""What the probe has to promise, of the size to beat."""

Symbols = Iterator[np.ndarray]
Buffer = bytes | memoryview


class Values(Protocol):
    """Elements in one of their forms."""

    @property
    def streams(self) -> Sequence[Stream]:
        """The streams whose symbols `patterns` takes, in order."""

    @property
    def nbytes(self) -> int:
        """Size in the file."""

    def parts(self) -> Iterator[Buffer]:
        """The elements as FORMAT.md lays them out, in pieces that are not copied."""

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

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return self.data.nbytes

    def parts(self) -> Iterator[Buffer]:
        """The elements, little-endian."""
        yield self.data.view(np.uint8).data

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

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return len(varint(len(self.frame))) + len(self.frame)

    def parts(self) -> Iterator[Buffer]:
        """The size of the frame, and the frame."""
        yield varint(len(self.frame))
        yield self.frame

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
    def of_literals(cls, patterns: np.ndarray) -> "Zstd":
        """A frame that looks for hardly any repetition: what is left is Zstandard's Huffman coder, which is fast."""
        compressor = zstandard.ZstdCompressor(compression_params=_literal_parameters())
        return cls(compressor.compress(patterns.view(np.uint8).data), patterns.size, patterns.itemsize)

    @classmethod
    def smaller(cls, patterns: np.ndarray, limit: int, level: int, *, exhaustive: bool = False) -> "Zstd | None":
        """A frame of the patterns if it takes fewer bytes than `limit`; of many bytes, some are tried first."""
        data = patterns.view(np.uint8)
        if data.size > 2 * SAMPLE and not (_probed if exhaustive else _promising)(data, limit, level):
            return None
        if not exhaustive and data.size < SMALL:
            level = min(level, SMALL_LEVEL)
        made = cls(_compressor(level).compress(data.data), patterns.size, patterns.itemsize)
        return made if made.nbytes < limit else None


def _promising(data: np.ndarray, limit: int, level: int) -> bool:
    """Whether some of the bytes come out small enough for all of them to take fewer than `limit`."""
    sample = sampled(data)
    promised = len(_compressor(1).compress(sample.data)) / sample.size
    return promised <= NOISE and promised * data.size <= limit * (PERHAPS if data.size < LARGE else SURELY)


def _probed(data: np.ndarray, limit: int, level: int) -> bool:
    """Whether all bytes at a low level, and what a sample gains by `level`, promise fewer than `limit`."""
    sample = sampled(data)
    gain = len(_compressor(level).compress(sample.data)) / len(_compressor(PROBE_LEVEL).compress(sample.data))
    probe = zstandard.ZstdCompressor(compression_params=_probe_parameters())
    return gain * len(probe.compress(data.data)) < PROBABLY * limit


@cache
def _probe_parameters() -> zstandard.ZstdCompressionParameters:
    return zstandard.ZstdCompressionParameters.from_level(PROBE_LEVEL, window_log=PROBE_WINDOW, enable_ldm=True)


@cache
def _compressor(level: int) -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(level=level)


@cache
def _literal_parameters() -> zstandard.ZstdCompressionParameters:
    """Repetitions of seven bytes, remembered by 64 hashes; blocks of 128 KiB, each with a code of its own."""
    return zstandard.ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_FAST, window_log=17, hash_log=6, chain_log=6, min_match=7
    )


def sampled(elements: np.ndarray) -> np.ndarray:
    """Some elements, in a few runs from all over; all if they are few."""
    if elements.size <= SAMPLE:
        return elements
    starts = np.linspace(0, elements.size - SAMPLE // SAMPLE_PARTS, SAMPLE_PARTS).astype(np.int64).tolist()
    return np.concatenate([elements[start : start + SAMPLE // SAMPLE_PARTS] for start in starts])
