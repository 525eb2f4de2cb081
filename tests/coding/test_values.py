import ml_dtypes
import numpy as np
import pytest

from dcomp.coding import values
from dcomp.coding.level import LEVELS
from dcomp.coding.limits import MAX_CODEBOOK_SIZE
from dcomp.coding.plain import Raw, Zstd
from dcomp.coding.planes import Planes
from dcomp.coding.values import Shared

DEFAULT = LEVELS["default"]
F32 = np.dtype(np.float32)


def patterns_of(array):
    return array.view(f"u{array.dtype.itemsize}")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("few", "count"), [(3, 100), (200, 40_000), (2000, 150_000)])
def test_codes_stand_for_the_values(rng, dtype, few, count, level):
    patterns = patterns_of(rng.choice(rng.normal(scale=100, size=few).astype(dtype), count))
    found = values.find_codes(patterns, np.dtype(dtype), LEVELS[level])
    assert np.array_equal(found.codebook[found.codes], patterns)
    assert np.array_equal(np.sort(found.codebook), np.unique(patterns))


def test_rare_values_that_a_sample_misses_have_codes_too(rng):
    patterns = rng.choice(np.arange(1, 300, dtype=np.uint32), 200_000)
    rare = rng.choice(200_000, 40, replace=False)
    patterns[rare] = 1_000_000 + np.arange(40)
    found = values.find_codes(patterns, F32, DEFAULT)
    assert np.array_equal(found.codebook[found.codes], patterns)
    assert found.codebook.size == np.unique(patterns).size


@pytest.mark.parametrize("count", [1, 2, 10, 11])
def test_values_are_shared_if_at_least_two_have_each_on_average(count):
    often = np.repeat(np.arange(1, count + 1, dtype=np.uint32), 2)
    assert values.find_codes(often, F32, DEFAULT).codebook.size == count
    assert values.find_codes(often[1:], F32, DEFAULT) is None


def test_more_values_than_a_codebook_holds_are_not_shared():
    most = np.tile(np.arange(1, MAX_CODEBOOK_SIZE + 1, dtype=np.uint32), 3)
    assert values.find_codes(most, F32, LEVELS["max"]).codebook.size == MAX_CODEBOOK_SIZE
    assert values.find_codes(np.append(most, np.uint32(MAX_CODEBOOK_SIZE + 1)), F32, LEVELS["max"]) is None


def test_no_values_have_no_codes():
    assert values.find_codes(np.zeros(0, np.uint32), F32, DEFAULT) is None


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_size_floats_are_shared_where_they_were_and_in_planes_where_they_were_not(rng, dtype):
    free = patterns_of((0.02 * rng.normal(size=300_000)).astype(dtype))
    few = patterns_of(rng.choice(rng.normal(size=40).astype(dtype), 300_000))
    assert values.find_codes(free, np.dtype(dtype), DEFAULT) is None
    assert values.find_codes(few, np.dtype(dtype), DEFAULT).codebook.size == np.unique(few).size


@pytest.mark.parametrize(
    ("dtype", "ascending"),
    [
        (np.float32, [-np.inf, -2, -0.0, 0.0, 1e-40, 3]),
        (ml_dtypes.bfloat16, [-2, -1, 1, 3]),
        (np.int8, [-128, -1, 0, 127]),
        (np.int64, [-(2**63), -1, 1, 2**40]),
        (np.uint16, [0, 1, 40_000]),
    ],
)
def test_a_codebook_ascends_as_its_dtype_does(rng, dtype, ascending):
    codebook = np.array(ascending, dtype)
    patterns = patterns_of(rng.permutation(np.repeat(codebook, 3000)))
    dtype = np.dtype(dtype)
    shared = Shared.encode(values.find_codes(patterns, dtype, DEFAULT), dtype, DEFAULT)
    assert np.array_equal(shared.codebook.patterns(iter(())), patterns_of(codebook))


@pytest.mark.parametrize("size", [15, 16, 40, 300])
def test_a_codebook_is_in_planes_where_these_are_smaller(rng, size):
    near = np.linspace(1, 1.9, size).astype(np.float32)
    free = rng.integers(1, 2**32, size, np.uint32).view(np.float32)
    for codebook in (near, free):
        patterns = patterns_of(np.repeat(codebook, 30))
        found = values.find_codes(patterns, F32, DEFAULT)
        shared = Shared.encode(found, F32, DEFAULT)
        planes = Planes.encode(np.sort(patterns_of(codebook)), F32, DEFAULT)
        assert isinstance(shared.codebook, Planes) == (size >= 16 and planes.nbytes < 4 * size)
        assert shared.codebook.nbytes <= 4 * size


@pytest.mark.parametrize("repeats", [2, 3, 100])
def test_a_codebook_is_kept_only_where_it_pays(rng, repeats):
    numbers = np.arange(1, 501, dtype=np.uint32)
    floats = patterns_of(rng.normal(size=500).astype(np.float32))
    for distinct, pays in ((numbers, repeats == 100), (floats, True)):
        found = values.find_codes(rng.permutation(np.repeat(distinct, repeats)), F32, DEFAULT)
        taken = values.encode_shared(found, F32, DEFAULT)
        shared = Shared.encode(found, F32, DEFAULT)
        free = values.encode(found.codebook[found.codes], F32, DEFAULT)
        assert taken.nbytes == min(shared.nbytes, free.nbytes)
        assert isinstance(taken, Shared) == pays


@pytest.mark.parametrize("size", [20, 200])
def test_shared_values_in_a_pattern_are_a_zstandard_frame(rng, size):
    found = values.find_codes(np.tile(rng.integers(1, 2**32, size, np.uint32), 4000 // size), F32, DEFAULT)
    assert isinstance(values.encode_shared(found, F32, DEFAULT), Zstd)


def test_the_smallest_of_the_forms_without_a_codebook_is_taken(rng):
    noise = rng.integers(0, 2**32, 5000, np.uint32)
    floats = patterns_of((0.02 * rng.normal(size=5000)).astype(np.float32))
    repeated = np.tile(noise[:500], 10)
    assert isinstance(values.encode(noise, F32, DEFAULT), Raw)
    assert isinstance(values.encode(floats, F32, DEFAULT), Planes)
    assert isinstance(values.encode(repeated, F32, DEFAULT), Zstd)
    assert isinstance(values.encode(noise[:0], F32, DEFAULT), Raw)
