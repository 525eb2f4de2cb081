import ml_dtypes
import numpy as np
import pytest

from dcomp.coding.codebook import find_codebook
from dcomp.coding.level import LEVELS
from dcomp.coding.planes import Planes
from dcomp.coding.shared import Shared

DEFAULT = LEVELS["default"]
F32 = np.dtype(np.float32)


def patterns_of(array):
    return array.view(f"u{array.dtype.itemsize}")


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
    shared = Shared.encode(find_codebook(patterns, dtype, DEFAULT), dtype, DEFAULT)
    assert np.array_equal(shared.codebook.patterns(iter(())), patterns_of(codebook))


@pytest.mark.parametrize("size", [15, 16, 40, 300])
def test_a_codebook_is_in_planes_where_they_are_smaller(rng, size):
    near = np.linspace(1, 1.9, size).astype(np.float32)
    free = rng.integers(1, 2**32, size, np.uint32).view(np.float32)
    for codebook in (near, free):
        patterns = patterns_of(np.repeat(codebook, 30))
        indexed = find_codebook(patterns, F32, DEFAULT)
        shared = Shared.encode(indexed, F32, DEFAULT)
        planes = Planes.encode(np.sort(patterns_of(codebook)), F32, DEFAULT)
        assert isinstance(shared.codebook, Planes) == (size >= 16 and planes.nbytes < 4 * size)
        assert shared.codebook.nbytes <= 4 * size
