"""Keep weights that the loss needs, by its second order (Theis et al. 2018, "Faster gaze prediction", section 2.1)."""

import numpy as np

from dcomp.pruning.criteria import Evidence
from dcomp.pruning.criteria.magnitude import absolute


def score(evidence: Evidence) -> np.ndarray:
    """Score each weight by the root of w^2 g, where its mean squared gradient g stands for the curvature."""
    assert evidence.squared_gradients is not None  # the table says that this criterion needs gradients
    return absolute(evidence.weights) * np.sqrt(evidence.squared_gradients)
