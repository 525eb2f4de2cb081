"""Table lookups for many elements, a chunk at a time."""

import numpy as np

from dcomp.coding import tuning


def lookup(table: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return the table's entry for each index, shape (n,); numpy would widen all indices to eight bytes at once.

    Args:
        table: shape (k,).
        indices: unsigned, each below k, shape (n,).
    """
    entries = np.empty(indices.size, table.dtype)
    for begin in range(0, indices.size, tuning.LOOKUP_CHUNK):
        end = begin + tuning.LOOKUP_CHUNK
        np.take(table, indices[begin:end], out=entries[begin:end], mode="clip")
    return entries
