"""Weights -> mask.

*Scores* have the shape of their weights, or (rows, 1, ...) where whole rows are judged; what scores largest is kept.
A *mask* is a bool array of the same shape, True where the weight is kept. A *group* is a list of tensors that share
one budget: one tensor for `--scope layer`, all of them for `--scope global`. What is zero already
scores lowest, so it stays pruned for as long as the budget allows.
"""

from collections.abc import Sequence

import numpy as np


def magnitude(weights: np.ndarray) -> np.ndarray:
    """Score by absolute value (Han et al. 2015, "Learning both Weights and Connections", section 3)."""
    return np.abs(weights if weights.dtype.itemsize >= 4 else weights.astype(np.float32))


def row_norm(weights: np.ndarray) -> np.ndarray:
    """Score each row, which makes one output (a neuron, a convolution's filter), by its L2 norm; shape (rows, 1, ...).

    Li et al. 2017 ("Pruning Filters for Efficient ConvNets") rank filters of one layer so, by the L1 norm.
    """
    rows = magnitude(weights).reshape(len(weights), -1)
    squares = np.einsum("rw,rw->r", rows, rows, dtype=np.float64)  # in single precision the smallest would vanish
    return np.sqrt(squares).reshape(-1, *[1] * (weights.ndim - 1))


def random(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Score by chance, in (0, 1]: the baseline that every criterion has to beat."""
    scores = 1 - rng.random(weights.shape, dtype=np.float32)
    scores[weights == 0] = 0
    return scores


def deviation(weights: np.ndarray) -> float:
    """The standard deviation of a layer's weights."""
    return float(np.std(weights, dtype=np.float64))


def above(weights: np.ndarray, threshold: float) -> np.ndarray:
    """Mask of the weights at least `threshold` away from zero.

    The paper's own threshold (its section 2 refers to Han et al. 2015, section 3.1) is "a quality
    parameter multiplied by the standard deviation of a layer's weights".
    """
    magnitudes = magnitude(weights)
    return (magnitudes >= threshold) & (magnitudes > 0)


def keep_largest(scores: Sequence[np.ndarray], count: int) -> list[np.ndarray]:
    """Masks that keep exactly the `count` largest scores of a group; of equal scores, the first.

    One selection over all scores, no sort: O(n).
    """
    flat = scores[0].reshape(-1) if len(scores) == 1 else np.concatenate([s.reshape(-1) for s in scores])
    if not 0 <= count <= flat.size:
        raise ValueError(f"cannot keep {count} of {flat.size} weights")
    if count == 0:
        kept = np.zeros(flat.size, bool)
    else:
        threshold = np.partition(flat, flat.size - count)[flat.size - count]
        kept = flat > threshold
        ties = np.flatnonzero(flat == threshold)
        kept[ties[: count - np.count_nonzero(kept)]] = True
    ends = np.cumsum([s.size for s in scores])
    return [part.reshape(s.shape) for part, s in zip(np.split(kept, ends[:-1]), scores, strict=True)]


def kept_count(size: int, sparsity: float) -> int:
    """How many of `size` weights a sparsity keeps, to the nearest weight."""
    return size - round(size * sparsity)
