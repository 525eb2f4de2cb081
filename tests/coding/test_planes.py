import ml_dtypes
import numpy as np
import pytest

from dcomp.coding import lockstep
from dcomp.coding.level import LEVELS
from dcomp.coding.planes import BitPlane, Planes, has_exponent
from dcomp.coding.raw import Raw
from dcomp.coding.values import ValuesContext
from dcomp.coding.wire import Cursor
from dcomp.coding.zstd import Zstd

DEFAULT = LEVELS["default"]


def planes_of(array, level=DEFAULT):
    """The planes of an array, after they have come back from their bytes."""
    patterns = array.view(f"u{array.dtype.itemsize}")
    planes = Planes.encode(patterns, array.dtype, level)
    data = b"".join(planes.parts())
    assert len(data) == planes.nbytes
    cursor = Cursor(data, "it")
    parsed = Planes.parse(cursor, ValuesContext(array.size, array.dtype))
    cursor.finish()
    assert np.array_equal(parsed.patterns(iter(lockstep.decode_streams(parsed.streams))), patterns)
    return planes


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.int32, np.uint8])
@pytest.mark.parametrize("size", [1, 700, 70_000])
def test_planes_come_back(rng, dtype, size, level):
    array = (30 * rng.normal(size=size)).clip(0 if dtype is np.uint8 else -128).astype(dtype)
    assert len(planes_of(array, LEVELS[level]).planes) == array.dtype.itemsize


def test_planes_of_floats_begin_with_the_exponent(rng):
    scaled = rng.choice(np.array([-1, 1], np.float32), 4000) * np.float32(0.75)
    exponent, *rest = planes_of(scaled).planes
    assert exponent.nbytes < 20
    assert isinstance(rest[-1], BitPlane) or rest[-1].nbytes <= 520


def test_only_floats_of_more_than_a_byte_have_their_exponent_in_front():
    names = ["float16", "bfloat16", "float32", "float64"]
    assert all(has_exponent(np.dtype(name if name != "bfloat16" else ml_dtypes.bfloat16)) for name in names)
    assert not any(has_exponent(np.dtype(kind)) for kind in (np.int32, np.uint8, ml_dtypes.float8_e4m3fn, np.complex64))


def plane_of(plane, level=DEFAULT):
    (only,) = planes_of(plane, level).planes
    return only


@pytest.mark.parametrize("size", [40_000, 5001])
def test_a_plane_takes_the_form_that_suits_it(rng, size):
    assert isinstance(plane_of(rng.integers(0, 256, size, np.uint8)), Raw)
    assert plane_of(np.full(size, 7, np.uint8)).nbytes < 30
    skewed = np.minimum(rng.geometric(0.3, size), 255).astype(np.uint8)
    assert plane_of(skewed).nbytes < 1.1 * size * 3 / 8
    two = rng.choice(np.array([3, 200], np.uint8), size)
    assert plane_of(two).nbytes <= (size + 7) // 8 + 20
    repeated = np.tile(rng.integers(0, 256, 500, np.uint8), size // 500)
    assert isinstance(plane_of(repeated), Zstd)


def test_a_plane_of_chance_bits_is_stored_as_bits(rng):
    two = rng.choice(np.array([3, 200], np.uint8), 40_000)
    assert isinstance(plane_of(two), BitPlane)
    assert plane_of(two).letters == (3, 200)


@pytest.mark.parametrize("letters", [[5], [1, 2, 3]])
def test_only_planes_of_two_letters_are_bits(rng, letters):
    assert BitPlane.encode(rng.choice(np.array(letters, np.uint8), 100)) is None
