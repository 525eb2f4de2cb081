import numpy as np
import pytest

from dcomp.coding.plain import SAMPLE, SAMPLE_PARTS, Zstd, sampled
from dcomp.coding.wire import Cursor, varint
from dcomp.errors import ContainerError


def test_a_frame_is_taken_only_if_it_is_smaller():
    patterns = np.tile(np.arange(100, dtype=np.uint32), 5)
    frame = Zstd.smaller(patterns, 2000, 9)
    assert frame.nbytes == len(b"".join(frame.parts()))
    assert Zstd.smaller(patterns, frame.nbytes, 9) is None
    assert Zstd.smaller(patterns, frame.nbytes + 1, 9) == frame


@pytest.mark.parametrize("size", [100_000, 2_000_000])
def test_of_many_bytes_that_are_noise_no_frame_is_made_and_of_others_one_is(rng, size):
    noise = rng.integers(0, 256, size, np.uint8)
    few = rng.integers(0, 16, size, np.uint8)
    assert Zstd.smaller(noise, size, 3) is None
    assert Zstd.smaller(few, size, 3).nbytes < 0.6 * size
    assert Zstd.smaller(few, size // 4, 3) is None


def test_a_frame_comes_back(rng):
    patterns = rng.integers(0, 9, 4000).astype(np.uint16)
    frame = Zstd.of_literals(patterns)
    cursor = Cursor(b"".join(frame.parts()), "it")
    parsed = Zstd.parse(cursor, 4000, 2)
    cursor.finish()
    assert np.array_equal(parsed.patterns(iter(())), patterns)


def test_a_damaged_frame_is_refused(rng):
    frame = Zstd.of_literals(rng.integers(0, 9, 4000).astype(np.uint8)).frame[:-50]
    parsed = Zstd.parse(Cursor(varint(len(frame)) + frame, "it"), 4000, 1)
    with pytest.raises(ContainerError, match="damaged Zstandard frame"):
        parsed.patterns(iter(()))


def test_a_sample_is_all_of_few_elements_and_runs_from_first_to_last_of_many():
    few = np.arange(SAMPLE)
    assert sampled(few) is few
    many = np.arange(10 * SAMPLE)
    sample = sampled(many)
    assert (sample.size, sample[0], sample[-1]) == (SAMPLE, 0, many[-1])
    assert np.count_nonzero(np.diff(sample) != 1) == SAMPLE_PARTS - 1
