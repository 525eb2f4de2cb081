"""The paper's threshold: a quality parameter times the standard deviation of a layer's weights.

Its section 2 refers to Han et al. 2015, "Learning both Weights and Connections", section 3.1.
"""

import numpy as np

from dcomp.pruning.criteria.magnitude import absolute


def deviation(weights: np.ndarray) -> float:
    """Return the standard deviation of a layer's weights."""
    return float(np.std(weights, dtype=np.float64))


def above(weights: np.ndarray, threshold: float) -> np.ndarray:
    """Return the mask of the weights that are not zero and at least `threshold` away from it."""
    magnitudes = absolute(weights)
    return (magnitudes >= threshold) & (magnitudes > 0)
