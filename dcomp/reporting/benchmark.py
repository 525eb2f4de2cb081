"""Compare the size and speed of this codec with those of raw safetensors and zstd on one checkpoint."""

import io
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
import zstandard

from dcomp.checkpoints import dtypes, safetensors_file, tensors
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.container import writer
from dcomp.container.reader import Container
from dcomp.errors import DifferenceError

LOWEST_LEVEL, HIGHEST_LEVEL = -7, zstandard.MAX_COMPRESSION_LEVEL
"""Levels of zstd."""


@dataclass(frozen=True)
class BenchmarkRow:
    """A codec on a checkpoint; MB are 10^6 dense bytes.

    Attributes:
        codec: name of the codec.
        bytes: size of the compressed checkpoint.
        ratio: dense bytes over `bytes`.
        compress: speed from arrays to bytes in MB/s.
        decompress: speed from bytes to arrays in MB/s.
    """

    codec: str
    bytes: int
    ratio: float
    compress: float
    decompress: float


def measure_codecs(
    checkpoint: Checkpoint,
    zstd_levels: Sequence[int],
    seconds: float,
    note: Callable[[str], None] = lambda text: None,
    *,
    workers: int = 1,
) -> list[BenchmarkRow]:
    """Measure all codecs in turn, several times; the fastest run in each direction counts.

    Args:
        checkpoint: a checkpoint, which is read into memory first.
        zstd_levels: levels at which zstd compresses the bytes of the safetensors file.
        seconds: least time in seconds for each direction of each codec, at least one run.
        note: called with the name of each codec before it runs.
        workers: number of processes in which this codec compresses.

    Returns:
        a row for each codec, this one first.

    Raises:
        DifferenceError: a codec did not restore the checkpoint.
    """
    arrays = {name: np.array(array) for name, array in tensors.stream(checkpoint.tensors)}
    codecs = _codecs(Checkpoint(arrays, checkpoint.metadata), zstd_levels, workers)
    for codec in codecs:
        note(f"{codec.name} ...")
        codec.compress()
        _check_equal(codec.name, arrays, codec.decompress())
    if seconds:
        note("all codecs again, in turn ...")
        _repeat(codecs, seconds)
    return [codec.row(checkpoint.nbytes) for codec in codecs]


def _repeat(codecs: Sequence["_Codec"], seconds: float) -> None:
    """Run all codecs in turn, so that a slow moment of the machine meets all of them."""
    while waiting := [codec for codec in codecs if codec.spent < seconds]:
        for codec in waiting:
            codec.run_again(seconds)


Result = TypeVar("Result")


@dataclass
class _Clock:
    """The seconds of the fastest run, and of all runs."""

    best: float = math.inf
    spent: float = 0.0

    def time(self, work: Callable[[], Result]) -> Result:
        started = time.perf_counter()
        result = work()
        took = time.perf_counter() - started
        self.best, self.spent = min(self.best, took), self.spent + took
        return result


@dataclass
class _Codec:
    """A codec between arrays and bytes in memory, its last bytes, and the time of each direction."""

    name: str
    to_bytes: Callable[[], bytes]
    to_arrays: Callable[[bytes], dict[str, np.ndarray]]
    data: bytes = b""
    compressing: _Clock = field(default_factory=_Clock)
    decompressing: _Clock = field(default_factory=_Clock)

    @property
    def spent(self) -> float:
        """Return the seconds spent on the direction that has run for less time."""
        return min(self.compressing.spent, self.decompressing.spent)

    def compress(self) -> None:
        self.data = self.compressing.time(self.to_bytes)

    def decompress(self) -> dict[str, np.ndarray]:
        return self.decompressing.time(partial(self.to_arrays, self.data))

    def run_again(self, seconds: float) -> None:
        """Run each direction for another quarter of `seconds`, if it has not run for all of them."""
        for clock, work in ((self.compressing, self.compress), (self.decompressing, self.decompress)):
            until = min(seconds, clock.spent + seconds / 4)
            while clock.spent < until:
                work()

    def row(self, dense_bytes: int) -> BenchmarkRow:
        speeds = [dense_bytes / clock.best / 1e6 for clock in (self.compressing, self.decompressing)]
        return BenchmarkRow(self.name, len(self.data), dense_bytes / len(self.data), *speeds)


def _codecs(checkpoint: Checkpoint, zstd_levels: Sequence[int], workers: int) -> list[_Codec]:
    raw = _safetensors_bytes(checkpoint)
    like = dict(checkpoint.tensors)
    codecs = [
        _Codec("dcz", partial(_dcz_bytes, checkpoint, workers), _dcz_arrays),
        _Codec("safetensors", partial(_safetensors_bytes, checkpoint), lambda data: _arrays_of(bytearray(data), like)),
    ]
    for level in zstd_levels:
        compress = partial(zstandard.ZstdCompressor(level=level).compress, raw)
        codecs.append(_Codec(f"zstd -{level}", compress, lambda data: _arrays_of(_decompressed(data), like)))
    return codecs


def _decompressed(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(data)


def _check_equal(codec: str, expected: Mapping[str, np.ndarray], restored: Mapping[str, np.ndarray]) -> None:
    if list(expected) != list(restored):
        raise DifferenceError(f"{codec} restored other tensors than it compressed")
    for name, array in expected.items():
        result = restored[name]
        is_alike = (result.dtype, result.shape) == (array.dtype, array.shape)
        if not is_alike or not np.array_equal(dtypes.bit_patterns(result), dtypes.bit_patterns(array)):
            raise DifferenceError(f"{codec} did not restore tensor {name!r} bit for bit")


def _dcz_bytes(checkpoint: Checkpoint, workers: int) -> bytes:
    buffer = io.BytesIO()
    writer.write(checkpoint, buffer, workers=workers)
    return buffer.getvalue()


def _dcz_arrays(data: bytes) -> dict[str, np.ndarray]:
    return Container(data, max_memory=sys.maxsize).decode()


def _safetensors_bytes(checkpoint: Checkpoint) -> bytes:
    buffer = io.BytesIO()
    safetensors_file.save(checkpoint, buffer)
    return buffer.getvalue()


def _arrays_of(data: bytes | bytearray, like: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return views of the tensors of a safetensors file, which stand in the order of `like`."""
    offset = 8 + int.from_bytes(data[:8], "little")
    arrays = {}
    for name, array in like.items():
        arrays[name] = np.frombuffer(data, array.dtype, array.size, offset).reshape(array.shape)
        offset += array.nbytes
    return arrays
