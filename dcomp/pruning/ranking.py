"""Scores -> masks.

*Scores* have the shape of their weights, or (rows, 1, ...) where whole rows are ranked (see `criteria`). A *mask* is a
bool array of the same shape, True where the weight is kept. A *group* is a list of tensors that share one budget: one
tensor for `--scope layer`, all of them for `--scope global`.
"""

from collections.abc import Sequence

import numpy as np


def keep_largest(scores: Sequence[np.ndarray], count: int) -> list[np.ndarray]:
    """Return masks that keep exactly the `count` largest scores of a group; of equal scores, the first.

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
    """Return how many of `size` weights a sparsity keeps, to the nearest weight."""
    return size - round(size * sparsity)


def saliency(scores: np.ndarray) -> np.ndarray:
    """Return the expected increase of the loss if weights with these scores become zero, in float64."""
    return scores.astype(np.float64) ** 2


def pruned(weights: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return weights with those outside the mask at zero; zeros are 0.0, never -0.0."""
    return np.where(mask & (weights != 0), weights, 0)
