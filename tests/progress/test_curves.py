import numpy as np

from dcomp.progress.curves import kept_weights


def test_histograms_show_the_kept_weights_of_finite_tensors():
    shown = dict(kept_weights({"w": np.array([[0, 1.5], [-2, 0]]), "empty": np.zeros(3), "b": np.array([np.nan, 1])}))
    assert {name: kept.tolist() for name, kept in shown.items()} == {"weights/w": [1.5, -2]}
    assert shown["weights/w"].dtype == np.float32


def test_weights_that_single_precision_cannot_hold_have_no_histogram():
    assert not dict(kept_weights({"w": np.array([1e300, 1])}))
