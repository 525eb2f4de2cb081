import numpy as np
import pytest

from dcomp.coding import positions, sparse_index
from dcomp.coding.positions import Positions
from dcomp.coding.sparse_index import GapIndex, GapPlan, Letters


def cell(places, width):
    """Positions in gaps of a chosen width."""
    gaps = sparse_index.gaps_of(np.array(places))
    letters = Letters(width)
    counts = sparse_index.letter_counts(*np.unique(gaps, return_counts=True), letters.filler)
    return sparse_index.encode(gaps, GapPlan(letters, counts, 0))


def test_kept_elements_and_fillers_of_all_cells_are_counted():
    both = Positions(None, [cell([3, 9], 1), cell([5], 2), GapIndex(0)])
    assert (both.kept, both.fillers) == (3, 3 + 5 + 1)


def test_the_width_of_a_gap_is_the_mean_over_kept_elements_and_fillers():
    assert Positions(None, [cell([3, 9], 3)]).width == 3
    both = Positions(None, [cell([3, 9], 1), cell([5], 4)])
    assert both.width == pytest.approx((1 * (2 + 8) + 4 * 1) / 11)
    assert Positions(None, [GapIndex(0)]).width == 0


def test_an_element_follows_where_the_gap_before_it_is_zero():
    assert positions.follows([np.array([0, 1, 4]), np.array([2, 3])]).tolist() == [True, True, False, False, True]
