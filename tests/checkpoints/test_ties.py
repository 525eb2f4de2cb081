import numpy as np
import pytest

from dcomp.checkpoints import ties


def test_tensors_of_the_same_bytes_are_tied_to_the_first(rng):
    one, other = rng.normal(size=(2, 300))
    tensors = {"a": one, "b": other, "c": one.copy(), "d": other.copy(), "e": one.copy(), "f": one[:200]}
    assert ties.find(tensors) == {"c": "a", "d": "b", "e": "a"}


@pytest.mark.parametrize("size", [1, 63, 64, 65, 128, 1000])
def test_tensors_that_differ_in_one_byte_are_not_tied(rng, size):
    data = rng.integers(0, 256, size, np.uint8)
    for place in {0, size // 2, size - 1}:
        other = data.copy()
        other[place] ^= 1
        assert ties.find({"a": data, "b": other, "c": data.copy()}) == {"c": "a"}


def test_empty_tensors_are_not_tied():
    empty = np.zeros((0, 3), np.float32)
    assert ties.find({"a": empty, "b": empty}) == {}
