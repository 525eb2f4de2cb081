import numpy as np
import pytest

from dcomp.coding import lockstep, positions, sparse_index
from dcomp.coding.level import LEVELS
from dcomp.coding.positions import Positions
from dcomp.coding.sparse_index import GapIndex, Letters
from dcomp.coding.wire import Cursor

DEFAULT = LEVELS["default"]


def uneven(rng, shape=(60, 80)):
    """Positions in a matrix whose rows and columns differ in density."""
    density = np.outer(rng.choice([0.05, 0.9], shape[0]), rng.choice([0.2, 1], shape[1]))
    return np.flatnonzero(rng.random(shape) < density)


def coding_for(kept_at, shape, level=DEFAULT):
    return positions.choose_position_coding(sparse_index.gaps_of(kept_at), shape, level)


def test_kept_elements_and_fillers_are_those_of_all_cells():
    cells = [GapIndex(2, Letters(3), 2), GapIndex(0), GapIndex(3, Letters(5), 0)]
    index = Positions(None, cells)
    assert (index.kept, index.fillers) == (5, 2)


@pytest.mark.parametrize("level", LEVELS)
def test_positions_come_back_with_classes_and_without(rng, level):
    kept_at, shape = uneven(rng), (60, 80)
    position_coding = coding_for(kept_at, shape, LEVELS[level])
    cursor = Cursor(position_coding.encode().to_bytes(), "it")
    parsed = Positions.parse(cursor, shape, classes=position_coding.classes is not None)
    cursor.finish()
    back, cells = parsed.decode(shape, iter(lockstep.decode_streams(parsed.streams)))
    assert (position_coding.classes is None) == (level == "fast")
    assert np.array_equal(back, position_coding.ordered(kept_at))
    assert np.array_equal(positions.follows(cells), position_coding.follows())


def test_an_element_follows_another_where_no_zero_lies_between():
    cells = [np.array([0, 1, 4, 5, 6]), np.array([2, 3]), np.array([], int), np.array([0])]
    expected = [True, True, False, True, True, False, True, True]
    assert positions.follows(cells).tolist() == expected


def test_the_estimate_of_positions_is_near_their_size(rng):
    for kept_at in (uneven(rng), np.flatnonzero(rng.random(4800) < 0.3)):
        position_coding = coding_for(kept_at, (60, 80))
        assert position_coding.bits == pytest.approx(8 * len(position_coding.encode().to_bytes()), rel=0.1)


def test_classes_are_planned_where_they_save_something(rng):
    even = np.flatnonzero(rng.random((60, 80)) < 0.4)
    assert coding_for(uneven(rng), (60, 80)).classes is not None
    assert coding_for(even, (60, 80)).classes is None
    assert coding_for(uneven(rng), (60, 80), LEVELS["fast"]).classes is None
    assert coding_for(uneven(rng), (1, 4800)).classes is None


def test_uneven_columns_get_classes_as_uneven_rows_do(rng):
    columns = np.tile(rng.choice([0.05, 0.9], 80), (60, 1))
    kept_at = np.flatnonzero(rng.random((60, 80)) < columns)
    assert coding_for(kept_at, (60, 80)).classes.counts[1] > 1
    kept_at = np.flatnonzero(rng.random((80, 60)) < columns.T)
    assert coding_for(kept_at, (80, 60)).classes.counts[0] > 1


def test_columns_first_pays_where_neighbours_are_below_each_other(rng):
    below = np.repeat(rng.random((20, 300)) < 0.2, 10, axis=0)
    beside = np.repeat(rng.random((200, 30)) < 0.2, 10, axis=1)
    assert positions.columns_first_pays(sparse_index.gaps_of(np.flatnonzero(below)), below.shape)
    assert not positions.columns_first_pays(sparse_index.gaps_of(np.flatnonzero(beside)), beside.shape)
    assert not positions.columns_first_pays(np.array([77]), beside.shape)


def test_a_band_from_the_middle_tells_whether_columns_first_pays(rng):
    below = np.repeat(rng.random((200, 300)) < 0.2, 10, axis=0)  # 120,000 kept, more than are looked at
    beside = np.repeat(rng.random((2000, 30)) < 0.2, 10, axis=1)
    for middle, pays in ((below, True), (beside, False)):
        matrix = np.concatenate([~middle[:400], middle[:1200], ~middle[:400]])
        assert positions.columns_first_pays(sparse_index.gaps_of(np.flatnonzero(matrix)), matrix.shape) == pays
