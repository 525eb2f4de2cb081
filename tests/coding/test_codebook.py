import ml_dtypes
import numpy as np
import pytest

from dcomp.coding.codebook import find_codebook
from dcomp.coding.level import LEVELS
from dcomp.coding.limits import MAX_CODEBOOK_SIZE

DEFAULT = LEVELS["default"]
F32 = np.dtype(np.float32)


def patterns_of(array):
    return array.view(f"u{array.dtype.itemsize}")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("few", "count"), [(3, 100), (200, 40_000), (2000, 150_000)])
def test_codes_stand_for_the_values(rng, dtype, few, count, level):
    patterns = patterns_of(rng.choice(rng.normal(scale=100, size=few).astype(dtype), count))
    indexed = find_codebook(patterns, np.dtype(dtype), LEVELS[level])
    assert np.array_equal(indexed.codebook[indexed.codes], patterns)
    assert np.array_equal(np.sort(indexed.codebook), np.unique(patterns))


def test_rare_values_get_codes(rng):
    patterns = rng.choice(np.arange(1, 300, dtype=np.uint32), 200_000)
    rare = rng.choice(200_000, 40, replace=False)
    patterns[rare] = 1_000_000 + np.arange(40)
    indexed = find_codebook(patterns, F32, DEFAULT)
    assert np.array_equal(indexed.codebook[indexed.codes], patterns)
    assert indexed.codebook.size == np.unique(patterns).size


@pytest.mark.parametrize("count", [1, 2, 10, 11])
def test_values_are_shared_if_each_occurs_twice_on_average(count):
    often = np.repeat(np.arange(1, count + 1, dtype=np.uint32), 2)
    assert find_codebook(often, F32, DEFAULT).codebook.size == count
    assert find_codebook(often[1:], F32, DEFAULT) is None


def test_more_values_than_a_codebook_holds_are_not_shared():
    most = np.tile(np.arange(1, MAX_CODEBOOK_SIZE + 1, dtype=np.uint32), 3)
    assert find_codebook(most, F32, LEVELS["max"]).codebook.size == MAX_CODEBOOK_SIZE
    assert find_codebook(np.append(most, np.uint32(MAX_CODEBOOK_SIZE + 1)), F32, LEVELS["max"]) is None


def test_no_values_have_no_codes():
    assert find_codebook(np.zeros(0, np.uint32), F32, DEFAULT) is None


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_size_floats_are_shared_only_if_they_are_few(rng, dtype):
    free = patterns_of((0.02 * rng.normal(size=300_000)).astype(dtype))
    few = patterns_of(rng.choice(rng.normal(size=40).astype(dtype), 300_000))
    assert find_codebook(free, np.dtype(dtype), DEFAULT) is None
    assert find_codebook(few, np.dtype(dtype), DEFAULT).codebook.size == np.unique(few).size
