"""What makes decoders of Deep Compression stumble: each case through the codec and the reference decoder."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from dcomp.checkpoints import dtypes
from dcomp.coding import encoder, sparse_index
from dcomp.coding.decoder import decode_tensors
from dcomp.coding.level import LEVELS
from dcomp.coding.positions import Positions
from dcomp.coding.record import EncodedTensor

_spec = importlib.util.spec_from_file_location("reference_decoder", Path(__file__).parents[1] / "reference_decoder.py")
assert _spec and _spec.loader
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)

NAMES = list(dtypes.BY_NAME)


def same_by_both(encoded, array):
    """Whether dcomp and the reference decoder restore the array from its record."""
    record = encoded.record
    parsed = EncodedTensor.parse(record, array.dtype, array.shape, "it")
    number = NAMES.index(dtypes.NAME_OF[array.dtype])
    theirs = reference.decode_record(reference.Bytes(record), number, array.shape)
    return decode_tensors([parsed])[0].tobytes() == array.tobytes() == theirs


def survives(array):
    for level in LEVELS.values():
        assert same_by_both(encoder.encode_tensor(array, level), array)


def kept_at(positions, size, value=1.5):
    array = np.zeros(size, np.float32)
    array[positions] = value
    return array


def coded_with(positions, size, width):
    """The array's record with gaps of a chosen width."""
    array = kept_at(positions, size)
    gaps = sparse_index.gaps_of(np.asarray(positions))
    letters = sparse_index.Letters(width)
    counts = sparse_index.letter_counts(*np.unique(gaps, return_counts=True), letters.filler)
    index = sparse_index.encode_gaps(gaps, sparse_index.GapCoding(letters, counts, 0))
    values = encoder.encode_tensor(np.full(len(positions), 1.5, np.float32)).values
    encoded = EncodedTensor(array.dtype, array.shape, Positions(None, [index]), values)
    return encoded, array, index


@pytest.mark.parametrize(("gap", "fillers"), [(6, 0), (7, 1), (8, 1), (13, 1), (14, 2), (15, 2)])
def test_a_gap_just_before_at_and_beyond_the_alphabets_end(gap, fillers):
    encoded, array, index = coded_with([3, 4 + gap], 30, 3)
    assert index.fillers == fillers
    assert same_by_both(encoded, array)


def test_a_first_gap_far_beyond_the_alphabet():
    encoded, array, index = coded_with([100_000], 100_001, 4)
    assert index.fillers == 100_000 // 15
    assert same_by_both(encoded, array)


def test_long_fillers():
    encoded, array, index = coded_with([0, 70_000, 140_000], 200_000, 1)
    assert index.fillers == 69_999 + 69_999
    assert same_by_both(encoded, array)


def test_a_gap_of_millions():
    array = kept_at([3_999_999], 4_000_000)
    encoded = encoder.encode_tensor(array)
    assert encoded.nbytes < 40
    assert np.array_equal(decode_tensors([encoded])[0], array)


@pytest.mark.parametrize("positions", [[0], [2500], [4999]], ids=["first", "middle", "last"])
def test_one_kept_weight(positions):
    survives(kept_at(positions, 5000))


def test_trailing_zeros():
    survives(kept_at(np.arange(50), 5000))


def test_leading_zeros():
    survives(kept_at(np.arange(4950, 5000), 5000))


def test_one_symbol():
    survives(np.full(5000, 2.5, np.float32))
    survives(kept_at(np.arange(0, 5000, 7), 5000))


def test_two_symbols(rng):
    survives(rng.choice(np.array([-1, 1], np.float32), 5000))
    survives(rng.choice(np.array([0, 1], np.float32), 5000))


def test_no_zeros_and_all_zeros(rng):
    survives(rng.normal(size=3000).astype(np.float32))
    survives(np.zeros((30, 40), np.float32))


@pytest.mark.parametrize("count", [65_535, 65_536, 65_537])
def test_as_many_distinct_values_as_a_codebook_may_have(rng, count):
    array = rng.permutation(np.repeat(np.arange(1, count + 1, dtype=np.uint32), 2)).view(np.float32)
    for level in LEVELS.values():
        (decoded,) = decode_tensors([encoder.encode_tensor(array, level)])
        assert np.array_equal(decoded.view(np.uint32), array.view(np.uint32))


def patterns(rng, few, size=3000):
    return rng.choice(np.array(few, np.uint32), size).view(np.float32)


def test_payloads_of_nans_quiet_and_signalling_of_both_signs(rng):
    survives(patterns(rng, [0x7FC00000, 0x7FC00001, 0x7F800001, 0xFFC00000, 0xFF800123, 0]))


def test_minus_zero_among_zeros(rng):
    survives(patterns(rng, [0x80000000, 0, 0, 0, 0]))


def test_denormals_and_infinities(rng):
    survives(patterns(rng, [1, 2, 0x80000001, 0x007FFFFF, 0x7F800000, 0xFF800000, 0, 0, 0]))


def test_a_codebook_of_equal_values_with_different_bits(rng):
    array = patterns(rng, [0x80000000, 0x3F800000, 0x7FC00000, 0x7FC00001])
    encoded = encoder.encode_tensor(array)
    assert encoded.values.size == 4
    survives(array)


@pytest.mark.parametrize("name", NAMES)
def test_every_dtype_with_zeros_extremes_and_chance(rng, name):
    dtype = dtypes.BY_NAME[name]
    chance = rng.integers(0, 256, 600 * dtype.itemsize, np.uint8)
    chance[rng.random(chance.size) < 0.4] = 0
    chance[: 4 * dtype.itemsize] = 255
    for array in (chance.view(dtype), chance.view(dtype).reshape(20, 30), np.zeros((), dtype), np.zeros((2, 0), dtype)):
        survives(array)
