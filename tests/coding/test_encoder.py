"""Which of several encodings is taken: no other that can be made is smaller."""

import numpy as np
import pytest

from dcomp.checkpoints import dtypes
from dcomp.coding import encoder, positions, sparse_index
from dcomp.coding.codebook import find_codebook
from dcomp.coding.level import LEVELS
from dcomp.coding.planes import Planes
from dcomp.coding.positions import Positions
from dcomp.coding.raw import Raw
from dcomp.coding.record import EncodedTensor, matrix_of
from dcomp.coding.shared import Shared
from dcomp.coding.zstd import Zstd

DEFAULT, EXHAUSTIVE = LEVELS["default"], LEVELS["max"]


def forms(patterns, dtype, level, follows=None):
    """All forms of some values."""
    yield Raw(patterns)
    yield Zstd.smaller(patterns, dtype, 1 << 40, level)
    yield Planes.encode(patterns, dtype, level)
    if indexed := find_codebook(patterns, dtype, level):
        yield Shared.encode(indexed, dtype, level, follows)


def alternatives(array, level):
    """The ways to encode an array: with positions or without, rows or columns first, its values in any form."""
    patterns = dtypes.bit_patterns(array)
    yield from (EncodedTensor(array.dtype, array.shape, None, form) for form in forms(patterns, array.dtype, level))
    matrix = matrix_of(array.shape, columns_first=False)
    for columns_first in (False, True) if min(matrix) > 1 else (False,):
        turned = patterns.reshape(matrix).T.reshape(-1) if columns_first else patterns
        gaps, kept = sparse_index.scan(np.ascontiguousarray(turned))
        plan = positions.choose_position_coding(gaps, matrix[::-1] if columns_first else matrix, level)
        for form in forms(plan.ordered(kept), array.dtype, level, plan.follows()):
            yield EncodedTensor(array.dtype, array.shape, plan.encode(), form, columns_first)


def chance(rng, shape, density, few):
    return np.where(rng.random(shape) < density, rng.choice(np.asarray(few, np.float32), shape), 0).astype(np.float32)


def walk(rng, shape):
    return np.cumsum(rng.integers(-1, 2, shape), axis=1) % 50 + 1


ARRAYS = {
    "few kept": lambda rng: chance(rng, (40, 60), 0.03, [-1, 2, 3]),
    "half kept": lambda rng: chance(rng, (40, 60), 0.5, [-1, 2, 3]),
    "most kept": lambda rng: chance(rng, (40, 60), 0.8, [-1, 2, 3]),
    "nearly all kept": lambda rng: chance(rng, (40, 60), 0.998, [-1, 2, 3]),
    "few kept of many values": lambda rng: chance(rng, (40, 60), 0.05, rng.normal(size=400)),
    "most kept of many values": lambda rng: chance(rng, (40, 60), 0.9, rng.normal(size=400)),
    "free floats, some kept": lambda rng: chance(rng, (40, 60), 0.2, rng.normal(size=10**6)),
    "free floats, most kept": lambda rng: chance(rng, (40, 60), 0.97, rng.normal(size=10**6)),
    "columns": lambda rng: chance(rng, (40, 60), np.repeat(rng.random((4, 60)) < 0.2, 10, axis=0), [-1, 2, 3]),
    "rows": lambda rng: chance(rng, (40, 60), np.repeat(rng.random((40, 6)) < 0.2, 10, axis=1), [-1, 2, 3]),
    "uneven rows": lambda rng: chance(rng, (40, 60), np.repeat([[0.05], [0.8]], 20, axis=0), [-1, 2, 3]),
    "chains": lambda rng: np.where(np.repeat(rng.random((40, 20)) < 0.4, 10, axis=1), walk(rng, (40, 200)), 0),
    "a vector": lambda rng: chance(rng, 2400, 0.1, [-1, 2, 3]),
    "bytes": lambda rng: np.where(rng.random((40, 60)) < 0.3, rng.integers(1, 256, (40, 60)), 0).astype(np.uint8),
    "halves": lambda rng: chance(rng, (40, 60), 0.4, rng.normal(size=10**6)).astype(np.float16),
    "repeated": lambda rng: np.tile(np.arange(50, dtype=np.int32), 80).reshape(80, 50),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_at_the_highest_level_no_other_encoding_is_smaller(rng, kind):
    array = np.ascontiguousarray(ARRAYS[kind](rng))
    encoded = encoder.encode_tensor(array, EXHAUSTIVE)
    assert encoded.nbytes == len(encoded.record)
    assert encoded.nbytes <= min(other.nbytes for other in alternatives(array, EXHAUSTIVE))


@pytest.mark.parametrize("kind", ARRAYS)
def test_at_the_default_level_hardly_any_is(rng, kind):
    array = np.ascontiguousarray(ARRAYS[kind](rng))
    least = min(other.nbytes for other in alternatives(array, DEFAULT))
    assert encoder.encode_tensor(array).nbytes <= 1.02 * least + 4


def test_the_level_max_tries_columns_first_without_zeros(rng):
    down = np.ascontiguousarray(walk(rng, (40, 200)).T.astype(np.float32))
    down[rng.random(down.shape) < 0.01] = 0
    encoded = encoder.encode_tensor(down, EXHAUSTIVE)
    assert (encoded.columns_first, encoded.index) == (True, None)
    assert encoded.nbytes < 0.9 * encoder.encode_tensor(down).nbytes


def test_a_tensor_of_zeros_keeps_nothing():
    encoded = encoder.encode_tensor(np.zeros((3, 4), np.float32))
    assert (encoded.index, encoded.nbytes) == (Positions(None, [sparse_index.GapIndex(0)]), 2)
