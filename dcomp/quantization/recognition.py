"""Shared values, recognized in weights of which nothing says whether they are shared."""

import ml_dtypes
import numpy as np

from dcomp.checkpoints import dtypes
from dcomp.quantization import MAX_BITS

MAX_FEW_VALUES = 256
"""Values up to which a tensor counts as shared: so few hardly ever come by chance."""

HALVES = (ml_dtypes.bfloat16, np.float16)


def is_shared(weights: np.ndarray) -> bool:
    """Tell whether the kept weights have so few values that these are a codebook.

    Up to 256 values are a codebook if there are at least eight weights for seven values. Up to 65,536 are one if there
    are at least two weights for each, unless 16 bits can hold the values (`is_unclear`).
    """
    values, count = _few_values(weights)
    if not 0 < values.size <= count * 7 // 8:
        return False
    return values.size <= MAX_FEW_VALUES or (values.size <= count // 2 and not _fit_16_bits(values))


def is_unclear(weights: np.ndarray) -> bool:
    """Tell whether nothing shows if values are shared: more than 256 that 16 bits hold, as bfloat16 weights are."""
    values, count = _few_values(weights)
    return MAX_FEW_VALUES < values.size <= count // 2 and _fit_16_bits(values)


def _few_values(weights: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the distinct values of the kept weights, none if a codebook cannot hold them, and the weights' count."""
    kept = dtypes.bit_patterns(weights[weights != 0])
    if np.unique(kept[: 4 << MAX_BITS]).size > 1 << MAX_BITS:  # the first weights of a large tensor often suffice
        return weights[:0].reshape(-1), kept.size
    values = np.unique(kept).view(weights.dtype)
    return (values if values.size <= 1 << MAX_BITS else values[:0]), kept.size


def _fit_16_bits(values: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return any(np.array_equal(values.astype(kind).astype(values.dtype), values) for kind in HALVES)
