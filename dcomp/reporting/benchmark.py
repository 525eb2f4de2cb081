"""Size and speed of this codec beside raw safetensors and zstd, on one checkpoint, in one run."""

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

LOWEST, HIGHEST = -7, zstandard.MAX_COMPRESSION_LEVEL
"""Levels of zstd."""


@dataclass(frozen=True)
class BenchmarkRow:
    """A codec on a checkpoint; MB are 10^6 dense bytes.

    Attributes:
        codec: its name.
        bytes: of the compressed checkpoint.
        ratio: dense bytes over those.
        compress: MB a second, from arrays to bytes.
        decompress: MB a second, from bytes to arrays.
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
    """Measure all codecs in turn, round after round; the best time of each direction's runs counts.

    Args:
        checkpoint: is read into memory first.
        zstd_levels: of the compressor that is compared with, on the bytes of the safetensors file.
        seconds: least time for each figure; one run is always made.
        note: told which codec is measured.
        workers: processes in which this codec compresses.

    Raises:
        DifferenceError: a codec did not give back what it was given.
    """
    arrays = {name: np.array(array) for name, array in tensors.stream(checkpoint.tensors)}
    codecs = _codecs(Checkpoint(arrays, checkpoint.metadata), zstd_levels, workers)
    for codec in codecs:
        note(f"{codec.name} ...")
        codec.compress()
        _check_equal(codec.name, arrays, codec.decompress())
    if seconds:
        note("all of them again, in turn ...")
    while waiting := [codec for codec in codecs if codec.spent < seconds]:
        for codec in waiting:  # in turn, so that a slow moment of the machine meets all of them
            codec.run_again(seconds)
    dense = checkpoint.nbytes
    return [
        BenchmarkRow(
            codec.name,
            len(codec.data),
            dense / len(codec.data),
            dense / codec.compressing.best / 1e6,
            dense / codec.decompressing.best / 1e6,
        )
        for codec in codecs
    ]


Result = TypeVar("Result")


@dataclass
class _Clock:
    """Seconds of the fastest run, and of all runs."""

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
    """Arrays in memory -> bytes in memory -> arrays, and how long each took."""

    name: str
    to_bytes: Callable[[], bytes]
    to_arrays: Callable[[bytes], dict[str, np.ndarray]]
    data: bytes = b""
    compressing: _Clock = field(default_factory=_Clock)
    decompressing: _Clock = field(default_factory=_Clock)

    @property
    def spent(self) -> float:
        """Seconds spent on the figure that has had the least."""
        return min(self.compressing.spent, self.decompressing.spent)

    def compress(self) -> None:
        self.data = self.compressing.time(self.to_bytes)

    def decompress(self) -> dict[str, np.ndarray]:
        return self.decompressing.time(partial(self.to_arrays, self.data))

    def run_again(self, seconds: float) -> None:
        """Run each direction that needs it, fast ones many times: a turn lasts a quarter of what is asked for."""
        for clock, work in ((self.compressing, self.compress), (self.decompressing, self.decompress)):
            until = min(seconds, clock.spent + seconds / 4)
            while clock.spent < until:
                work()


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


def _check_equal(codec: str, given: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> None:
    if list(given) != list(found):
        raise DifferenceError(f"{codec} gave back other tensors than it was given")
    for name, array in given.items():
        back = found[name]
        same = (back.dtype, back.shape) == (array.dtype, array.shape)
        if not same or not np.array_equal(dtypes.bit_patterns(back), dtypes.bit_patterns(array)):
            raise DifferenceError(f"{codec} did not give back tensor {name!r} as it was")


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
    """Views of a safetensors file's tensors, which stand in the order of `like`."""
    offset = 8 + int.from_bytes(data[:8], "little")
    found = {}
    for name, array in like.items():
        found[name] = np.frombuffer(data, array.dtype, array.size, offset).reshape(array.shape)
        offset += array.nbytes
    return found
