import numpy as np
import pytest

from dcomp.pruning import threshold


def test_the_papers_threshold_is_a_multiple_of_the_deviation(rng):
    weights = rng.normal(0, 2, 100_000)
    assert threshold.above(weights, threshold.deviation(weights)).mean() == pytest.approx(0.3173, abs=0.01)


def test_a_weight_at_the_threshold_is_kept_and_zero_never_is():
    weights = np.array([0.5, -0.5, 0.49, 0, 2])
    assert threshold.above(weights, 0.5).tolist() == [True, True, False, False, True]
    assert threshold.above(weights, 0).tolist() == [True, True, True, False, True]
