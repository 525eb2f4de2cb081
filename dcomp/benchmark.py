"""Size and speed of this codec beside raw safetensors and zstd, on one checkpoint, in one run."""

import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import zstandard

from dcomp import checkpoint as safetensors_file
from dcomp import dtypes, tensors
from dcomp.checkpoint import Checkpoint
from dcomp.container import writer
from dcomp.container.reader import Container

LOWEST, HIGHEST = -7, zstandard.MAX_COMPRESSION_LEVEL
"""Levels of zstd."""


@dataclass(frozen=True)
class Row:
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


Codec = tuple[Callable[[], bytes], Callable[[bytes], dict[str, np.ndarray]]]


def measure(
    checkpoint: Checkpoint,
    zstd_levels: Sequence[int],
    seconds: float,
    note: Callable[[str], None] = lambda text: None,
    *,
    workers: int = 1,
) -> list[Row]:
    """Measure all codecs, each direction for some seconds; the best time of its runs counts.

    Args:
        checkpoint: is read into memory first.
        zstd_levels: of the compressor that is compared with, on the bytes of the safetensors file.
        seconds: least time for each figure; one run is always made.
        note: told which codec is measured.
        workers: processes in which this codec compresses.
    """
    arrays = {name: np.array(array) for name, array in tensors.stream(checkpoint.tensors)}
    loaded = Checkpoint(arrays, checkpoint.metadata)
    raw = _safetensors_bytes(loaded)
    codecs: dict[str, Codec] = {
        "dcz": (lambda: _dcz_bytes(loaded, workers), lambda data: Container(data).decode()),
        "safetensors": (lambda: _safetensors_bytes(loaded), lambda data: _arrays_of(bytearray(data), arrays)),
    }
    for level in zstd_levels:
        codecs[f"zstd -{level}"] = (
            partial(zstandard.ZstdCompressor(level=level).compress, raw),
            lambda data: _arrays_of(zstandard.ZstdDecompressor().decompress(data), arrays),
        )
    rows = []
    for name, (compress, decompress) in codecs.items():
        note(f"{name} ...")
        data, compress_time = _best(compress, seconds)
        back, decompress_time = _best(partial(decompress, data), seconds)
        for key, array in arrays.items():
            assert dtypes.bit_patterns(back[key]).tobytes() == dtypes.bit_patterns(array).tobytes(), key
        del back
        dense = loaded.nbytes / 1e6
        rows.append(Row(name, len(data), loaded.nbytes / len(data), dense / compress_time, dense / decompress_time))
    return rows


Result = TypeVar("Result")


def _best(work: Callable[[], Result], seconds: float) -> tuple[Result, float]:
    """What `work` gives, and the seconds of its fastest run."""
    best, spent = math.inf, 0.0
    while True:
        started = time.perf_counter()
        result = work()
        took = time.perf_counter() - started
        best, spent = min(best, took), spent + took
        if spent >= seconds:
            return result, best


def _dcz_bytes(checkpoint: Checkpoint, workers: int) -> bytes:
    buffer = io.BytesIO()
    writer.write(checkpoint, buffer, workers=workers)
    return buffer.getvalue()


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
