import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dcomp.pruning import ranking

finite = st.floats(-4, 4, width=32)


@given(arrays(np.float32, st.integers(1, 60), elements=finite), st.data())
def test_exactly_the_largest_scores_are_kept(weights, data):
    count = data.draw(st.integers(0, weights.size))
    scores = np.abs(weights)
    (mask,) = ranking.keep_largest([scores], count)
    assert mask.sum() == count
    if 0 < count < weights.size:
        assert scores[mask].min() >= scores[~mask].max()


def test_of_equal_scores_the_first_are_kept():
    (mask,) = ranking.keep_largest([np.ones(5, np.float32)], 2)
    assert mask.tolist() == [True, True, False, False, False]


def test_a_group_shares_one_budget():
    small, large = np.full((2, 2), 0.1, np.float32), np.full(3, 9, np.float32)
    masks = ranking.keep_largest([small, large], 4)
    assert [mask.sum() for mask in masks] == [1, 3]
    assert [mask.shape for mask in masks] == [(2, 2), (3,)]


def test_a_count_beyond_the_weights_is_refused():
    with pytest.raises(ValueError, match="cannot keep 6 of 5"):
        ranking.keep_largest([np.ones(5)], 6)


@pytest.mark.parametrize(
    ("size", "sparsity", "kept"), [(10, 0.9, 1), (430_500, 0.92, 34_440), (3, 1.0, 0), (3, 0.0, 3)]
)
def test_kept_count_rounds_to_the_nearest_weight(size, sparsity, kept):
    assert ranking.kept_count(size, sparsity) == kept


@pytest.mark.parametrize("count", [0, 1, 4, 5])
def test_any_count_of_scores_can_be_kept(count):
    (mask,) = ranking.keep_largest([np.array([3, 1, 4, 1, 5])], count)
    assert mask.sum() == count
    with pytest.raises(ValueError, match="cannot keep -1 of 5"):
        ranking.keep_largest([np.ones(5)], -1)


def test_saliency_is_the_square_of_the_score():
    scores = np.array([0, 2, 1e-30], np.float32)
    assert ranking.saliency(scores) == pytest.approx([0, 4, 1e-60])


def test_pruned_weights_are_positive_zeros():
    weights = np.array([1, -0.0, -3], np.float32)
    pruned = ranking.pruned(weights, np.array([True, True, False]))
    assert (pruned.tolist(), np.signbit(pruned).any()) == ([1, 0, 0], False)
