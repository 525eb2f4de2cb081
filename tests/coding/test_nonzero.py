import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcomp.checkpoints import dtypes
from dcomp.coding import encoder, lockstep, nonzero, sparse_index
from dcomp.coding.codebook import IndexedValues
from dcomp.coding.decoder import decode_tensors
from dcomp.coding.fixed_widths import FixedWidths
from dcomp.coding.level import LEVELS
from dcomp.coding.nonzero import NonZero
from dcomp.coding.planes import Planes
from dcomp.coding.positions import Positions
from dcomp.coding.raw import Raw
from dcomp.coding.record import EncodedTensor
from dcomp.coding.shared import Shared
from dcomp.coding.sparse_index import GapIndex
from dcomp.coding.zstd import Zstd


def recounted(array):
    """What is not zero by numpy's own judgement; the smallest sum of fixed-width fields, tried one after the other."""
    flat = array.reshape(-1)
    with np.errstate(invalid="ignore"):
        kept = (
            np.flatnonzero(flat != 0) if array.dtype.name != "float8_e8m0fnu" else np.flatnonzero(flat.view(np.uint8))
        )
    if kept.size == flat.size or not kept.size:
        return NonZero(kept.size, 0)
    gaps = np.diff(kept, prepend=-1) - 1
    sums = [width * sum(1 + int(gap) // (2**width - 1) for gap in gaps) for width in range(1, 20)]
    return NonZero(kept.size, min(sums))


def fixed_width_bits(*parts):
    widths = FixedWidths()
    for gaps in parts:
        widths.add(gaps)
    return widths.bits


@st.composite
def arrays(draw):
    """Tensors of every dtype whose zeros are few or many, of either sign, beside few values or many."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = dtypes.BY_NAME[draw(st.sampled_from(list(dtypes.BY_NAME)))]
    rows, columns = draw(st.sampled_from([(1, 0), (1, 1), (1, 7), (20, 30), (40, 90)]))
    palette = rng.integers(0, 256, (draw(st.sampled_from([1, 3, 40, 4000])), dtype.itemsize), np.uint8)
    elements = palette[rng.integers(0, len(palette), rows * columns)]
    density = np.outer(rng.choice([0.02, 0.5, 1], rows), rng.choice([0.1, 1], columns)).reshape(-1)
    part = draw(st.sampled_from([0, 0.3, 1]))
    elements[rng.random(rows * columns) < part * (1 - density)] = 0
    array = np.ascontiguousarray(elements).reshape(-1).view(dtype).reshape(rows, columns)
    if draw(st.booleans()) and dtypes.NAME_OF[dtype] in dtypes.SIGNED_ZERO:
        array[rng.random(array.shape) < 0.1] = -0.0
    return array.reshape(draw(st.sampled_from([array.shape, (-1,)])))


@given(arrays(), st.sampled_from(list(LEVELS.values())))
def test_a_record_and_its_array_count_alike(array, level):
    encoded = encoder.encode_tensor(array, level)
    parsed = EncodedTensor.parse(encoded.record, array.dtype, array.shape, "it")
    expected = recounted(array)
    assert nonzero.of_records([parsed]) == [expected]
    assert nonzero.of_array(array) == expected
    assert dtypes.count_not_zero(array) == expected.count


def test_records_of_every_form_are_counted_together(rng):
    kept = rng.random((200, 300)) < 0.05
    phrase = rng.integers(0, 256, 2000, np.uint8)
    half = np.where(rng.random(4000) < 0.5, rng.normal(size=4000), 0)
    uneven = rng.random((200, 300)) < np.outer(rng.choice([0.02, 0.5], 200), rng.choice([0.1, 1], 300))
    runs = np.repeat(rng.random((20, 300)) < 0.2, 10, axis=0)
    arrays = {
        "positions": np.where(kept, rng.choice([-1, 1, 2], kept.shape), 0).astype(np.float32),
        "classes": np.where(uneven, rng.choice([-1, 1, 2], uneven.shape), 0).astype(np.float32),
        "columns first": np.where(runs, rng.choice([-1, 1, 2], runs.shape), 0).astype(np.float32),
        "free": half.astype(np.float32),
        "codes": rng.choice([0, 1, 2, 3], 5000).astype(np.float32),
        "planes": rng.normal(size=3000).astype(np.float32),
        "raw": rng.integers(0, 256, 3000).astype(np.uint8),
        "zstd": np.concatenate([phrase, phrase[:1900]]),
        "all zero": np.zeros(100, np.float32),
    }
    encoded = {name: encoder.encode_tensor(array) for name, array in arrays.items()}
    assert encoded["classes"].index.classes is not None
    assert encoded["columns first"].columns_first
    assert isinstance(encoded["codes"].values, Shared) and encoded["codes"].index is None
    assert [type(encoded[name].values) for name in ("planes", "raw", "zstd")] == [Planes, Raw, Zstd]
    assert nonzero.of_records(list(encoded.values())) == [recounted(array) for array in arrays.values()]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2])
def test_negative_zeros_are_zero(rng, dtype):
    array = rng.normal(size=3000).astype(dtype)
    array[rng.random(3000) < 0.3] = -0.0
    array[rng.random(3000) < 0.3] = 0.0
    count = int(np.count_nonzero(array.astype(np.float64)))
    assert nonzero.of_records([encoder.encode_tensor(array)])[0].count == dtypes.count_not_zero(array) == count


def test_zeros_that_another_encoder_has_kept_are_not_counted():
    gaps = np.array([2, 0, 1, 0])
    index = Positions(None, [sparse_index.encode_gaps(gaps, sparse_index.choose_gap_coding(gaps))])
    values = Raw(np.array([1.5, 0, -0.0, 2], np.float32).view(np.uint32))
    record = EncodedTensor(np.dtype(np.float32), (8,), index, values)
    assert nonzero.of_records([record]) == [recounted(np.array([0, 0, 1.5, 0, 0, 0, 2, 0]))]


def test_positions_of_nothing_are_counted():
    record = EncodedTensor(np.dtype(np.float32), (8,), Positions(None, [GapIndex(0)]), Raw(np.zeros(0, np.uint32)))
    assert nonzero.of_records([record]) == [NonZero(0, 0)]


def test_negative_zeros_count_as_zeros_in_planes(rng):
    exponents = rng.integers(0x30, 0x44, 4000, np.uint16) << 8
    patterns = exponents | rng.choice(np.array([1, 2, 3], np.uint16), 4000)
    patterns[rng.random(4000) < 0.2] = 0x8000  # -0.0
    patterns[rng.random(4000) < 0.8] = 0
    array = patterns.view(np.float16)
    encoded = encoder.encode_tensor(array, LEVELS["max"])
    assert encoded.index is not None
    assert isinstance(encoded.values, Planes)
    assert encoded.values.planes[-1].streams
    assert nonzero.of_records([encoded]) == [nonzero.of_array(array)]
    assert nonzero.of_array(array).count == np.count_nonzero(array)


def test_only_streams_with_zeros_are_decoded(rng, monkeypatch):
    decoded = []
    decode = lockstep.decode_streams
    monkeypatch.setattr(
        lockstep, "decode_streams", lambda streams, *more: decoded.extend(streams) or decode(streams, *more)
    )
    sparse = np.where(rng.random(9000) < 0.1, rng.choice([1, 2], 9000), 0).astype(np.float32)
    pruned = encoder.encode_tensor(sparse)
    shared = encoder.encode_tensor(rng.choice([1, 2, 3], 9000).astype(np.float32))
    nonzero.of_records([pruned, shared])
    assert decoded == pruned.index.streams
    decoded.clear()
    nonzero.of_records([encoder.encode_tensor((1 + rng.random(9000)).astype(np.float32), LEVELS["max"])])
    assert decoded == []


@pytest.mark.parametrize(
    ("gaps", "bits"),
    [
        ([], 0),
        ([0], 1),
        ([2, 3, 0, 4], 12),  # in 2 bits: 4 gaps and 2 fillers, in 3 bits no filler
        ([0] * 100, 100),
        ([10] * 100, 400),
        ([0] * 99 + [1000], 5 * (100 + 32)),  # 32 fillers of 31 zeros
    ],
)
def test_gaps_of_fixed_width_pay_their_fillers(gaps, bits):
    assert fixed_width_bits(np.array(gaps, np.int64)) == bits


def test_a_gap_of_any_length_has_a_width():
    assert fixed_width_bits(np.array([2**39])) == min(w * (1 + 2**39 // (2**w - 1)) for w in range(1, 42))


@pytest.mark.parametrize("place", [0, 1])
def test_zeros_of_planes_in_pairs_are_seen_first_and_second(rng, place):
    array = (1 + rng.random(4000)).astype(np.float32)
    array[place::2] = 0
    planes = Planes.encode(dtypes.bit_patterns(array), array.dtype, LEVELS["max"])
    assert [stream.model.name for stream in planes.planes[0].streams] == ["PAIRS"]
    assert nonzero.of_records([EncodedTensor(array.dtype, (4000,), None, planes)]) == [recounted(array)]


def test_positions_that_keep_all_are_no_gaps():
    gaps = np.zeros(6, np.int64)
    index = Positions(None, [sparse_index.encode_gaps(gaps, sparse_index.choose_gap_coding(gaps))])
    values = Raw(np.arange(1, 7, dtype=np.float32).view(np.uint32))
    record = EncodedTensor(np.dtype(np.float32), (6,), index, values)
    assert nonzero.of_records([record]) == [NonZero(6, 0)]


def test_gaps_of_a_dense_record_with_columns_first_run_along_the_rows():
    array = np.array([[1, 0, 0, 0, 2], [0, 0, 3, 0, 0], [4, 0, 0, 0, 0]], np.float32)
    turned = EncodedTensor(array.dtype, array.shape, None, Raw(dtypes.bit_patterns(array.T)), columns_first=True)
    (decoded,) = decode_tensors([turned])
    assert decoded.tobytes() == array.tobytes()
    assert nonzero.of_records([turned]) == [recounted(array)] != [recounted(array.T)]


@pytest.mark.parametrize("columns_first", [False, True])
@pytest.mark.parametrize("shape", [(3, 200_000), (200_000, 3), (700, 900), (1, 400_000), (400_000, 1)])
def test_gaps_that_go_on_in_another_chunk_are_counted_as_one(rng, shape, columns_first):
    array = np.where(rng.random(shape) < 0.001, np.float32(1), np.float32(0))
    array.reshape(-1)[100_000:399_000] = 0
    stored = dtypes.bit_patterns(array.T if columns_first else array)
    dense = EncodedTensor(array.dtype, shape, None, Raw(stored), columns_first=columns_first)
    gaps, values = sparse_index.scan(stored)
    index = Positions(None, [sparse_index.encode_gaps(gaps, sparse_index.choose_gap_coding(gaps))])
    sparse = EncodedTensor(array.dtype, shape, index, Raw(values), columns_first=columns_first)
    kept = np.flatnonzero(array)
    gaps = np.diff(kept, prepend=-1) - 1
    bits = min(width * int((1 + gaps // (2**width - 1)).sum()) for width in range(1, 20))
    assert nonzero.of_records([dense, sparse]) == [NonZero(kept.size, bits)] * 2
    assert nonzero.of_array(array) == NonZero(kept.size, bits)


@pytest.mark.parametrize("columns_first", [False, True])
@pytest.mark.parametrize("form", ["zstd", "codes", "positions"])
def test_counting_takes_no_more_memory_than_decoding(form, columns_first):
    array = np.ones((4096, 2048), np.uint8)
    array[1::2, 7] = 0
    patterns = dtypes.bit_patterns(array.T if columns_first else array)
    if form == "positions":
        gaps, kept = sparse_index.scan(patterns)
        index = Positions(None, [sparse_index.encode_gaps(gaps, sparse_index.choose_gap_coding(gaps))])
        values = Raw(kept)
    else:
        index = None
        codes = IndexedValues(np.arange(2, dtype=np.uint8), patterns)
        values = (
            Shared.encode(codes, array.dtype, LEVELS["default"])
            if form == "codes"
            else Zstd.smaller(patterns, array.dtype, patterns.size, LEVELS["fast"])
        )
    record = EncodedTensor(array.dtype, array.shape, index, values, columns_first=columns_first)
    expected = nonzero.of_array(array)
    tracemalloc.start()
    try:
        assert nonzero.of_records([record]) == [expected]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < record.memory + (4 << 20)
