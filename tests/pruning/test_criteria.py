import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dcomp.pruning import criteria

finite = st.floats(-4, 4, width=32)


@given(arrays(np.float32, st.integers(1, 60), elements=finite), st.data())
def test_exactly_the_count_asked_for_is_kept_and_nothing_larger_is_pruned(weights, data):
    count = data.draw(st.integers(0, weights.size))
    scores = criteria.magnitude(weights)
    (mask,) = criteria.keep_largest([scores], count)
    assert mask.sum() == count
    if 0 < count < weights.size:
        assert scores[mask].min() >= scores[~mask].max()


def test_of_equal_scores_the_first_are_kept():
    (mask,) = criteria.keep_largest([np.ones(5, np.float32)], 2)
    assert mask.tolist() == [True, True, False, False, False]


def test_a_group_shares_one_budget():
    small, large = np.full((2, 2), 0.1, np.float32), np.full(3, 9, np.float32)
    masks = criteria.keep_largest([small, large], 4)
    assert [mask.sum() for mask in masks] == [1, 3]
    assert [mask.shape for mask in masks] == [(2, 2), (3,)]


def test_a_count_beyond_the_weights_is_refused():
    with pytest.raises(ValueError, match="cannot keep 6 of 5"):
        criteria.keep_largest([np.ones(5)], 6)


def test_random_scores_leave_zeros_last(rng):
    weights = np.array([0, 1, 0, 2, 3], np.float32)
    scores = criteria.random(weights, rng)
    assert (scores[weights == 0] == 0).all()
    assert (scores[weights != 0] > 0).all()


def test_the_papers_threshold_is_a_multiple_of_the_deviation(rng):
    weights = rng.normal(0, 2, 100_000)
    assert criteria.above(weights, criteria.deviation(weights)).mean() == pytest.approx(0.3173, abs=0.01)


@pytest.mark.parametrize(
    ("size", "sparsity", "kept"), [(10, 0.9, 1), (430_500, 0.92, 34_440), (3, 1.0, 0), (3, 0.0, 3)]
)
def test_kept_count_rounds_to_the_nearest_weight(size, sparsity, kept):
    assert criteria.kept_count(size, sparsity) == kept


@pytest.mark.parametrize("shape", [(5,), (5, 7), (5, 3, 2, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16])
def test_a_row_scores_its_norm(rng, shape, dtype):
    weights = rng.normal(size=shape).astype(dtype)
    norms = criteria.row_norm(weights)
    assert norms.shape == (5, *[1] * (len(shape) - 1))
    expected = np.linalg.norm(weights.astype(np.float64).reshape(5, -1), axis=1)
    assert norms.reshape(5) == pytest.approx(expected)


def test_only_rows_of_zeros_score_zero():
    rows = np.zeros((2, 3), np.float32)
    rows[1, 2] = 1e-40
    assert (criteria.row_norm(rows) != 0).ravel().tolist() == [False, True]


def test_a_weight_at_the_threshold_is_kept_and_zero_never_is():
    weights = np.array([0.5, -0.5, 0.49, 0, 2])
    assert criteria.above(weights, 0.5).tolist() == [True, True, False, False, True]
    assert criteria.above(weights, 0).tolist() == [True, True, True, False, True]


def test_random_scores_are_spread_over_all_of_their_range(rng):
    scores = criteria.random(np.ones(1000, np.float32), rng)
    assert scores.dtype == np.float32
    assert (scores.min() > 0, scores.max() <= 1) == (True, True)
    assert np.histogram(scores, 4, (0, 1))[0] == pytest.approx([250] * 4, rel=0.2)


@pytest.mark.parametrize("count", [0, 1, 4, 5])
def test_any_count_of_scores_can_be_kept(count):
    (mask,) = criteria.keep_largest([np.array([3, 1, 4, 1, 5])], count)
    assert mask.sum() == count
    with pytest.raises(ValueError, match="cannot keep -1 of 5"):
        criteria.keep_largest([np.ones(5)], -1)


def test_half_size_weights_are_scored_in_single_precision():
    assert criteria.magnitude(np.array([-2], ml_dtypes.bfloat16)).dtype == np.float32
    assert criteria.magnitude(np.array([-2], np.float32)).dtype == np.float32
    assert criteria.magnitude(np.array([-2], np.float64)).dtype == np.float64
