"""Keep large weights (Han et al. 2015, "Learning both Weights and Connections", section 3)."""

import numpy as np

from dcomp.pruning.criteria import Evidence


def score(evidence: Evidence) -> np.ndarray:
    """Score each weight by its absolute value, or each row by its L2 norm."""
    return row_norm(evidence.weights) if evidence.granularity == "row" else absolute(evidence.weights)


def absolute(weights: np.ndarray) -> np.ndarray:
    """Return absolute values, in single precision at least."""
    return np.abs(weights if weights.dtype.itemsize >= 4 else weights.astype(np.float32))


def row_norm(weights: np.ndarray) -> np.ndarray:
    """Return the L2 norm of each row, which makes one output (a neuron, a convolution's filter); shape (rows, 1, ...).

    Li et al. 2017 ("Pruning Filters for Efficient ConvNets") rank the filters of one layer so, by the L1 norm.
    """
    rows = absolute(weights).reshape(len(weights), -1)
    squares = np.einsum("rw,rw->r", rows, rows, dtype=np.float64)  # in single precision the smallest would vanish
    return np.sqrt(squares).reshape(-1, *[1] * (weights.ndim - 1))
