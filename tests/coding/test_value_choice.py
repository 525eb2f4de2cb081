import numpy as np
import pytest

from dcomp.coding import value_choice
from dcomp.coding.codebook import find_codebook
from dcomp.coding.level import LEVELS
from dcomp.coding.planes import Planes
from dcomp.coding.raw import Raw
from dcomp.coding.shared import Shared
from dcomp.coding.zstd import Zstd

DEFAULT = LEVELS["default"]
F32 = np.dtype(np.float32)


def patterns_of(array):
    return array.view(f"u{array.dtype.itemsize}")


@pytest.mark.parametrize("repeats", [2, 3, 100])
def test_a_codebook_is_chosen_only_where_it_saves_bytes(rng, repeats):
    numbers = np.arange(1, 501, dtype=np.uint32)
    floats = patterns_of(rng.normal(size=500).astype(np.float32))
    for distinct, pays in ((numbers, repeats == 100), (floats, True)):
        indexed = find_codebook(rng.permutation(np.repeat(distinct, repeats)), F32, DEFAULT)
        smallest = value_choice.smallest_shared(indexed, F32, DEFAULT)
        shared = Shared.encode(indexed, F32, DEFAULT)
        free = value_choice.smallest_free(indexed.codebook[indexed.codes], F32, DEFAULT)
        assert smallest.nbytes == min(shared.nbytes, free.nbytes)
        assert isinstance(smallest, Shared) == pays


@pytest.mark.parametrize("size", [20, 200])
def test_shared_values_in_a_pattern_are_a_zstandard_frame(rng, size):
    indexed = find_codebook(np.tile(rng.integers(1, 2**32, size, np.uint32), 4000 // size), F32, DEFAULT)
    assert isinstance(value_choice.smallest_shared(indexed, F32, DEFAULT), Zstd)


def test_the_smallest_form_without_a_codebook_is_chosen(rng):
    noise = rng.integers(0, 2**32, 5000, np.uint32)
    floats = patterns_of((0.02 * rng.normal(size=5000)).astype(np.float32))
    repeated = np.tile(noise[:500], 10)
    assert isinstance(value_choice.smallest_free(noise, F32, DEFAULT), Raw)
    assert isinstance(value_choice.smallest_free(floats, F32, DEFAULT), Planes)
    assert isinstance(value_choice.smallest_free(repeated, F32, DEFAULT), Zstd)
    assert isinstance(value_choice.smallest_free(noise[:0], F32, DEFAULT), Raw)
