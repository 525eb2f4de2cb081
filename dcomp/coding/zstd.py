"""Values as a Zstandard frame: form 1 (FORMAT.md, section 4.2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
import zstandard

from dcomp.coding import tuning
from dcomp.coding.level import Level
from dcomp.coding.sample import sampled
from dcomp.coding.values import Buffer, Symbols, Values, ValuesContext
from dcomp.coding.wire import Cursor, varint
from dcomp.errors import ContainerError


@dataclass(frozen=True)
class Zstd(Values):
    """A Zstandard frame of the patterns' bytes."""

    COPIES: ClassVar[int] = 1

    frame: bytes | memoryview
    itemsize: int

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return len(varint(len(self.frame))) + len(self.frame)

    def parts(self) -> Iterator[Buffer]:
        """Yield the size of the frame, and the frame."""
        yield varint(len(self.frame))
        yield self.frame

    def patterns(self, symbols: Symbols) -> np.ndarray:
        """Return the patterns, decompressed."""
        try:
            data = zstandard.ZstdDecompressor().decompress(self.frame, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise ContainerError(f"damaged Zstandard frame: {error}") from error
        return np.frombuffer(data, f"<u{self.itemsize}")

    @classmethod
    def parse(cls, cursor: Cursor, context: ValuesContext) -> "Zstd":
        """Read a frame.

        Raises:
            ContainerError: no frame, or of another content size.
        """
        frame = cursor.take(cursor.varint(cursor.remaining, "size of a Zstandard frame"))
        try:
            size = zstandard.frame_content_size(frame)
        except zstandard.ZstdError as error:
            raise ContainerError(f"{cursor.label}: not a Zstandard frame") from error
        expected = context.count * context.dtype.itemsize
        if size != expected:
            raise ContainerError(f"{cursor.label}: a Zstandard frame of {size} bytes, {expected} expected")
        return cls(frame, context.dtype.itemsize)

    @classmethod
    def of_literals(cls, patterns: np.ndarray) -> "Zstd":
        """Encode with hardly any search for repetition: Zstandard's Huffman coder is left, which is fast."""
        compressor = zstandard.ZstdCompressor(compression_params=_literal_parameters())
        return cls(compressor.compress(patterns.view(np.uint8).data), patterns.itemsize)

    @classmethod
    def smaller(cls, patterns: np.ndarray, dtype: np.dtype, limit: int, level: Level) -> "Zstd | None":
        """Encode patterns, shape (m,); return None if that takes `limit` bytes or more. A sample is tried first."""
        data = patterns.view(np.uint8)
        is_less = _is_less_by_probe if level.exhaustive else _is_less_by_sample
        if data.size > 2 * tuning.SAMPLE_SIZE and not is_less(data, limit, level.zstd):
            return None
        is_small = not level.exhaustive and data.size < tuning.SMALL_FRAME
        number = min(level.zstd, tuning.SMALL_FRAME_LEVEL) if is_small else level.zstd
        values = cls(_compressor(number).compress(data.data), patterns.itemsize)
        return values if values.nbytes < limit else None


def _is_less_by_sample(data: np.ndarray, limit: int, level: int) -> bool:
    """Estimate from a sample at the lowest level whether all bytes take less than `limit`."""
    sample = sampled(data)
    part = len(_compressor(1).compress(sample.data)) / sample.size
    margin = tuning.FRAME_MARGIN if data.size < tuning.LARGE_FRAME else tuning.LARGE_FRAME_MARGIN
    return part <= tuning.INCOMPRESSIBLE and part * data.size <= limit * margin


def _is_less_by_probe(data: np.ndarray, limit: int, level: int) -> bool:
    """Estimate from all bytes at a low level, and a sample's gain by `level`, whether they take less than `limit`."""
    sample = sampled(data)
    low = len(_compressor(tuning.PROBE_LEVEL).compress(sample.data))
    gain = len(_compressor(level).compress(sample.data)) / low
    probe = zstandard.ZstdCompressor(compression_params=_probe_parameters())
    return gain * len(probe.compress(data.data)) < tuning.PROBE_MARGIN * limit


@cache
def _probe_parameters() -> zstandard.ZstdCompressionParameters:
    return zstandard.ZstdCompressionParameters.from_level(
        tuning.PROBE_LEVEL, window_log=tuning.PROBE_WINDOW, enable_ldm=True
    )


@cache
def _compressor(level: int) -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(level=level)


@cache
def _literal_parameters() -> zstandard.ZstdCompressionParameters:
    """Look for repetitions of seven bytes with 64 hashes; each block of 128 KiB has its code."""
    return zstandard.ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_FAST, window_log=17, hash_log=6, chain_log=6, min_match=7
    )
