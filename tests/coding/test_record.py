import ml_dtypes
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from dcomp.checkpoints import dtypes
from dcomp.coding import encoder
from dcomp.coding.decoder import decode_tensors
from dcomp.coding.level import LEVELS
from dcomp.coding.planes import Planes
from dcomp.coding.raw import Raw
from dcomp.coding.record import EncodedTensor
from dcomp.coding.shared import Shared
from dcomp.coding.zstd import Zstd
from dcomp.errors import ContainerError


def round_trip(array, level="default"):
    encoded = encoder.encode_tensor(array, LEVELS[level])
    parsed = EncodedTensor.parse(encoded.record, array.dtype, array.shape, "it")
    (decoded,) = decode_tensors([parsed])
    assert decoded.dtype == array.dtype
    assert decoded.shape == array.shape
    assert decoded.tobytes() == array.tobytes()
    return encoded


@st.composite
def any_array(draw):
    dtype = dtypes.BY_NAME[draw(st.sampled_from(list(dtypes.BY_NAME)))]
    shape = draw(array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9))
    patterns = np.dtype(f"u{dtype.itemsize}")
    few = draw(st.lists(st.integers(0, 2 ** (8 * dtype.itemsize) - 1), min_size=1, max_size=4))
    elements = draw(st.sampled_from([st.integers(0, 2 ** (8 * dtype.itemsize) - 1), st.sampled_from([0, *few])]))
    return draw(arrays(patterns, shape, elements=elements, fill=st.just(0))).view(dtype)


@given(any_array(), st.sampled_from(list(LEVELS)))
def test_every_bit_of_every_dtype_and_shape_comes_back(array, level):
    round_trip(array, level)


def sparse(rng, size, density, values):
    array = np.zeros(size, np.float32)
    kept = rng.random(size) < density
    array[kept] = rng.choice(np.asarray(values, np.float32), kept.sum())
    return array


def test_pruned_and_shared_weights_are_stored_as_gaps_and_codes(rng):
    encoded = round_trip(sparse(rng, 10_000, 0.05, [-1, 2, 3]))
    assert isinstance(encoded.values, Shared)
    assert encoded.index is not None


def test_shared_weights_with_few_zeros_have_no_positions(rng):
    encoded = round_trip(sparse(rng, 10_000, 0.99, [-1, 2, 3, 4]))
    assert isinstance(encoded.values, Shared)
    assert encoded.index is None


def test_pruned_weights_that_are_not_shared_keep_their_floats(rng):
    array = np.where(rng.random(10_000) < 0.05, rng.normal(size=10_000), 0).astype(np.float32)
    encoded = round_trip(array)
    assert isinstance(encoded.values, Planes)
    assert encoded.index is not None
    assert len(encoded.record) < 4.3 * np.count_nonzero(array)


def test_random_bytes_are_stored_as_they_are(rng):
    encoded = round_trip(rng.integers(-(2**63), 2**63 - 1, 1000))
    assert isinstance(encoded.values, Raw)
    assert len(encoded.record) == 8001


@pytest.mark.parametrize(
    ("dtype", "share"), [(np.float32, 0.88), (np.float64, 0.94), (np.float16, 0.9), (ml_dtypes.bfloat16, 0.78)]
)
def test_free_weights_are_stored_in_planes(rng, dtype, share):
    array = (0.02 * rng.normal(size=20_000)).astype(dtype)
    assert len(round_trip(array).record) < share * array.nbytes


def test_zstandard_compresses_repetitions_without_zeros_or_sharing(rng):
    assert len(round_trip(np.tile(np.arange(3000, dtype=np.int32), 3)).record) < 1500
    phrase = rng.integers(1, 256, 2000, np.uint8)
    encoded = round_trip(np.concatenate([phrase, phrase[:1900]]))
    assert isinstance(encoded.values, Zstd)
    assert len(encoded.record) < 1.02 * phrase.nbytes


@pytest.mark.parametrize("value", [0, 1.5, -0.0, np.nan])
def test_a_million_equal_values_take_a_few_bytes(value):
    assert len(round_trip(np.full((1000, 1000), value, np.float32)).record) < 20


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0,), np.float32),
        np.zeros((3, 0, 2), np.float16),
        np.array(3.5, np.float64),
        np.array(0, np.int8),
        np.zeros((2, 2), ml_dtypes.bfloat16),
    ],
)
def test_scalars_and_empty_and_all_zero_tensors_come_back(array):
    round_trip(array)


def test_zeros_of_both_signs_and_all_nans_keep_their_bits(rng):
    patterns = rng.choice(np.array([0, 0x80000000, 0x7FC00000, 0x7FC00001, 0xFFC00000, 1, 0x80000001], np.uint32), 5000)
    round_trip(patterns.view(np.float32))


def test_a_tensor_with_one_kept_weight_comes_back():
    for position in (0, 1, 499_999, 999_999):
        array = np.zeros(1_000_000, np.float32)
        array[position] = 2.5
        assert len(round_trip(array).record) < 40


def test_65536_distinct_values_come_back(rng):
    array = rng.permutation(np.repeat(np.arange(1, 65537, dtype=np.float32), 8))
    encoded = round_trip(array, "max")
    assert isinstance(encoded.values, Shared)
    assert encoded.values.size == 65536
    round_trip(array)


def test_65536_distinct_values_and_a_zero_come_back(rng):
    array = rng.permutation(np.repeat(np.arange(65537, dtype=np.float32), 8))
    round_trip(array)


def test_a_codebook_ascends_by_value(rng):
    encoded = round_trip(sparse(rng, 10_000, 0.1, [-3, -1, 2, 4]))
    assert encoded.values.codebook.patterns(iter(())).view(np.float32).tolist() == [-3, -1, 2, 4]


def test_an_array_that_is_not_contiguous_comes_back(rng):
    array = rng.integers(0, 3, (40, 50)).astype(np.float32)
    for view in (array.T, array[::2, ::-3]):
        round_trip(view)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"", "cut short"),
        (b"\x08", "reserved bits"),
        (b"\x0e", "reserved bits"),
        (b"\x80", "reserved bits"),
        (b"\x40", "cut short"),
        (b"\x40\x03", "reserved bits"),
        (b"\x42\x04", "reserved bits"),
        (b"\x40\x04abcd", "values of form 4, a form of a later version of dcomp"),
        (b"\x49\xff", "values of form 255, a form of a later version of dcomp"),
        (b"\x20", "reserved bits"),
        (b"\x00abc", "16 bytes expected, 3 left"),
        (b"\x02\x03abc", "not a Zstandard frame"),
        (b"\x02\x0b" + zstandard.compress(b"ab"), "a Zstandard frame of 2 bytes, 16 expected"),
        (b"\x02\x7f", "size of a Zstandard frame is 127"),
        (b"\x06\x04", "a plane of the reserved form 4"),
        (b"\x06\x03\x01\x01\x00", "a plane of the bytes 1 and 1"),
        (b"\x06\x03\x01", "cut short"),
        (b"\x06\x00abcd\x00abcd\x00abcd\x00abc", "cut short"),
        (b"\x04\x00", "an empty codebook"),
        (b"\x05\x00\x01", "shared values where there are none"),
        (b"\x03\x00", "zstd values where there are none"),
        (b"\x07\x00", "planes values where there are none"),
        (b"\x01\x00x", "1 bytes too many"),
        (b"\x04\x01aaaa\x00\xe0x", "1 bytes too many"),
        (b"\x21\x01\x01", "1 classes of rows and 1 of columns"),
        (b"\x21\x11\x01", "17 classes of rows and 1 of columns"),
    ],
)
def test_a_record_that_breaks_the_format_is_refused(record, message):
    with pytest.raises(ContainerError, match=message):
        EncodedTensor.parse(record, np.dtype(np.float32), (2, 2), "it")


@pytest.mark.parametrize("flags", [b"\x10", b"\x21"])
def test_rows_and_columns_of_a_vector_are_refused(flags):
    with pytest.raises(ContainerError, match="rows and columns in a tensor of 1 dimensions"):
        EncodedTensor.parse(flags, np.dtype(np.float32), (4,), "it")


def test_classes_of_an_empty_matrix_are_refused():
    with pytest.raises(ContainerError, match="classes of a matrix of 4 x 0"):
        EncodedTensor.parse(b"\x21\x02\x01", np.dtype(np.float32), (4, 0), "it")


def test_rows_and_columns_of_different_density_are_coded_in_classes(rng):
    density = np.outer(rng.choice([0.02, 0.5], 200), rng.choice([0.1, 1], 300))
    array = np.where(rng.random(density.shape) < density, rng.choice([-1, 1, 2], density.shape), 0).astype(np.float32)
    encoded = round_trip(array)
    assert encoded.index.classes is not None
    assert encoded.nbytes < 0.95 * round_trip(array, "fast").nbytes


def test_columns_come_first_where_neighbours_are_below_each_other(rng):
    runs = np.repeat(rng.random((20, 300)) < 0.2, 10, axis=0)
    array = np.where(runs, rng.choice([-1, 1, 2], runs.shape), 0).astype(np.float32)
    encoded = round_trip(array)
    assert encoded.columns_first
    assert encoded.nbytes < 0.7 * round_trip(array, "fast").nbytes
    assert round_trip(np.ascontiguousarray(array.T)).columns_first is False


def test_codes_of_neighbours_that_resemble_each_other_are_chained(rng):
    walk = np.cumsum(rng.integers(-1, 2, (40, 500)), axis=1) % 50 + 1
    runs = np.repeat(rng.random((40, 50)) < 0.3, 10, axis=1)
    array = np.where(runs, walk, 0).astype(np.float32)
    encoded = round_trip(array)
    assert encoded.values.codes.apart
    assert encoded.nbytes < 0.97 * round_trip(array, "fast").nbytes
    assert round_trip(walk.astype(np.float32)).nbytes < 0.8 * round_trip(walk.astype(np.float32), "fast").nbytes


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_decodes_to_the_same_array(rng, level):
    array = np.where(rng.random((60, 90)) < 0.2, rng.choice([-1, 1, 2], (60, 90)), 0).astype(np.float32)
    round_trip(array, level)


def test_no_higher_level_takes_more_bytes(rng):
    density = np.outer(rng.choice([0.02, 0.5], 100), rng.choice([0.1, 1], 80))
    array = np.where(rng.random(density.shape) < density, rng.choice([-1, 1, 2], density.shape), 0).astype(np.float32)
    fast, default, most = (encoder.encode_tensor(array, LEVELS[level]).nbytes for level in ("fast", "default", "max"))
    assert most <= default <= fast
