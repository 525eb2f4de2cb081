import numpy as np
import pytest

from dcomp.coding.level import LEVELS
from dcomp.coding.values import ValuesContext
from dcomp.coding.wire import Cursor, varint
from dcomp.coding.zstd import Zstd
from dcomp.errors import ContainerError

FAST = LEVELS["fast"]


def test_a_frame_is_made_only_if_it_is_smaller():
    patterns = np.tile(np.arange(100, dtype=np.uint32), 5)
    frame = Zstd.smaller(patterns, patterns.dtype, 2000, FAST)
    assert frame.nbytes == len(b"".join(frame.parts()))
    assert Zstd.smaller(patterns, patterns.dtype, frame.nbytes, FAST) is None
    assert Zstd.smaller(patterns, patterns.dtype, frame.nbytes + 1, FAST) == frame


@pytest.mark.parametrize("size", [100_000, 2_000_000])
def test_no_frame_is_made_of_noise(rng, size):
    noise = rng.integers(0, 256, size, np.uint8)
    few = rng.integers(0, 16, size, np.uint8)
    assert Zstd.smaller(noise, noise.dtype, size, FAST) is None
    assert Zstd.smaller(few, few.dtype, size, FAST).nbytes < 0.6 * size
    assert Zstd.smaller(few, few.dtype, size // 4, FAST) is None


def test_a_frame_comes_back(rng):
    patterns = rng.integers(0, 9, 4000).astype(np.uint16)
    frame = Zstd.of_literals(patterns)
    cursor = Cursor(b"".join(frame.parts()), "it")
    parsed = Zstd.parse(cursor, ValuesContext(4000, np.dtype(np.uint16)))
    cursor.finish()
    assert np.array_equal(parsed.patterns(iter(())), patterns)


def test_a_damaged_frame_is_refused(rng):
    frame = Zstd.of_literals(rng.integers(0, 9, 4000).astype(np.uint8)).frame[:-50]
    parsed = Zstd.parse(Cursor(varint(len(frame)) + frame, "it"), ValuesContext(4000, np.dtype(np.uint8)))
    with pytest.raises(ContainerError, match="damaged Zstandard frame"):
        parsed.patterns(iter(()))
