"""Samples of elements, by which the encoder decides what to try."""

import numpy as np

from dcomp.coding import tuning


def sampled(elements: np.ndarray) -> np.ndarray:
    """Return some elements, in a few runs from first to last; all if they are few."""
    size, parts = tuning.SAMPLE_SIZE, tuning.SAMPLE_PARTS
    if elements.size <= size:
        return elements
    starts = np.linspace(0, elements.size - size // parts, parts).astype(np.int64).tolist()
    return np.concatenate([elements[start : start + size // parts] for start in starts])
