import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcomp.coding import huffman, lockstep, sparse_index
from dcomp.coding.sparse_index import GapCoding, GapIndex, Letters
from dcomp.coding.wire import Cursor
from dcomp.errors import ContainerError


def coded(positions, width=None, divisor=0):
    gaps = sparse_index.gaps_of(np.asarray(positions))
    if width is None:
        return sparse_index.encode_gaps(gaps, sparse_index.choose_gap_coding(gaps))
    letters = Letters(width, divisor)
    counts = sparse_index.letter_counts(*np.unique(gaps, return_counts=True), letters.filler)
    return sparse_index.encode_gaps(gaps, GapCoding(letters, counts, 0))


def decoded(index, elements):
    cursor = Cursor(index.to_bytes(), "it")
    parsed = GapIndex.parse(cursor, elements)
    cursor.finish()
    return sparse_index.decode_gaps(parsed, *lockstep.decode_streams([parsed.gaps]), elements).tolist()


@given(st.sets(st.integers(0, 3000), min_size=1), st.integers(1, 12))
def test_positions_come_back_at_every_width(positions, width):
    assert decoded(coded(sorted(positions), width), 3001) == sorted(positions)


@given(st.sets(st.integers(0, 3000), min_size=1), st.sampled_from([1, 2, 3, 5, 8, 100, 4096]))
def test_positions_come_back_in_every_golomb_code(positions, divisor):
    assert decoded(coded(sorted(positions), 0, divisor), 3001) == sorted(positions)


def test_few_positions_in_chance_places_take_a_golomb_code(rng):
    positions = np.flatnonzero(rng.random(20_000) < 0.01)
    index = coded(positions)
    assert index.letters.divisor
    assert len(index.to_bytes()) < min(len(coded(positions, width).to_bytes()) for width in range(1, 13))


def test_the_example_of_the_format_holds():
    index = coded([2, 6, 7, 12], 2)
    assert (index.kept, index.fillers) == (4, 2)
    assert lockstep.decode_streams([index.gaps])[0].tolist() == [2, 3, 0, 0, 3, 1]


@pytest.mark.parametrize("gap", [6, 7, 8, 14, 15, 700])
def test_a_gap_around_the_end_of_the_alphabet_comes_back(gap):
    index = coded([gap, 2 * gap + 1], 3)
    assert index.fillers == 2 * (gap // 7)
    assert decoded(index, 2 * gap + 2) == [gap, 2 * gap + 1]


def test_a_first_gap_far_beyond_the_alphabet_comes_back():
    assert decoded(coded([1_000_000], 4), 1_000_001) == [1_000_000]


def test_any_number_of_zeros_may_follow_the_last_position():
    assert decoded(coded([0, 5, 9]), 10**9) == [0, 5, 9]


def test_the_width_chosen_is_close_to_the_best_one(rng):
    positions = np.flatnonzero(rng.random(400_000) < 0.02)
    sizes = [len(coded(positions, width).to_bytes()) for width in range(1, 13)]
    assert len(coded(positions).to_bytes()) <= 1.01 * min(sizes)


def forged(symbols, width, kept, fillers):
    return GapIndex(kept, Letters(width), fillers, huffman.encode_stream(np.array(symbols, np.uint8), 1 << width))


@pytest.mark.parametrize(
    ("symbols", "kept", "fillers", "elements", "message"),
    [
        ([0, 3, 1], 2, 1, 5, "position 5 among 5 elements"),
        ([0, 2], 2, 0, 3, "position 3 among 3 elements"),
        ([0, 1, 3], 2, 1, 100, "the gaps end with a filler"),
        ([0, 1, 1], 2, 1, 100, "2 kept elements expected, 3 in the gaps"),
        ([3, 0], 2, 0, 100, "2 kept elements expected, 1 in the gaps"),
    ],
)
def test_symbols_that_do_not_fit_are_refused(symbols, kept, fillers, elements, message):
    with pytest.raises(ContainerError, match=message):
        decoded(forged(symbols, 2, kept, fillers), elements)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x05", "kept is 5"),
        (b"\x01\x11", "17 bits"),
        (b"\x01\x00\x00", "divisor 0"),
        (b"\x01\x00\x81\x20", "Golomb divisor is 4097, more than 4096"),
    ],
)
def test_fields_beyond_their_limits_are_refused(data, message):
    with pytest.raises(ContainerError, match=message):
        GapIndex.parse(Cursor(data, "it"), 4)


@given(st.lists(st.integers(0, 300), min_size=1, max_size=60), st.integers(1, 9))
def test_letters_are_counted_without_making_them(gaps, width):
    gaps = np.array(gaps)
    filler = Letters(width).filler
    counts = sparse_index.letter_counts(*sparse_index.occurrences_of(gaps), filler)
    index = sparse_index.encode_gaps(gaps, GapCoding(Letters(width), counts, 0))
    symbols = lockstep.decode_streams([index.gaps])[0]
    assert counts.tolist() == np.bincount(symbols, minlength=filler + 1).tolist()
    assert index.fillers == counts[-1]


@pytest.mark.parametrize("gaps", [[3, 0, 3, 1], [0], [5, 10**9, 5]])
def test_occurrences_are_counted_however_long_the_gaps(gaps):
    lengths, occurrences = sparse_index.occurrences_of(np.array(gaps))
    assert (lengths.tolist(), occurrences.tolist()) == tuple(
        part.tolist() for part in np.unique(gaps, return_counts=True)
    )


@pytest.mark.parametrize("size", [5, (1 << 17) + 5, 3 << 17])
def test_a_scan_tells_gaps_and_values_across_its_chunks(rng, size):
    patterns = np.where(rng.random(size) < 0.0002, rng.integers(1, 9, size), 0).astype(np.uint32)
    patterns[[1, -1]] = 7
    gaps, kept = sparse_index.scan(patterns)
    positions = np.flatnonzero(patterns)
    assert np.array_equal(gaps, np.diff(positions, prepend=-1) - 1)
    assert np.array_equal(sparse_index.positions_of(gaps), positions)
    assert np.array_equal(sparse_index.gaps_of(positions), gaps)
    assert np.array_equal(kept, patterns[positions])


def test_an_alphabet_ends_with_its_filler():
    assert (Letters(3).filler, Letters(0, 5).filler) == (7, 40)


@pytest.mark.parametrize(
    ("size", "density"), [(3000, 0.3), (3000, 0.05), (60_000, 0.9), (60_000, 0.3), (60_000, 0.05), (60_000, 0.001)]
)
def test_no_width_is_much_smaller_than_the_one_planned(rng, size, density):
    positions = np.flatnonzero(rng.random(size) < density)
    least = min(len(coded(positions, width).to_bytes()) for width in range(1, 13))
    planned = sparse_index.choose_gap_coding(sparse_index.gaps_of(positions))
    index = sparse_index.encode_gaps(sparse_index.gaps_of(positions), planned)
    assert len(index.to_bytes()) <= 1.02 * least + 2
    assert planned.bits == pytest.approx(8 * len(index.to_bytes()), rel=0.1, abs=70)
    assert planned.fillers == index.fillers


def test_positions_of_huge_tensors_are_counted_in_eight_bytes():
    gaps = np.array([1 << 33, 5], np.int64)
    index = sparse_index.encode_gaps(gaps // (1 << 20), sparse_index.choose_gap_coding(gaps // (1 << 20)))
    symbols = lockstep.decode_streams([index.gaps])[0]
    assert sparse_index.decode_gaps(index, symbols, 1 << 33).dtype == np.int64
    assert sparse_index.decode_gaps(index, symbols, 1 << 20).dtype == np.uint32
