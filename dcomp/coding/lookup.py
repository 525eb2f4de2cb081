"""Table lookups for many elements, a chunk at a time."""

import numpy as np

CHUNK = 1 << 16
"""Elements that are looked up, taken apart or coded at a time; what is made of them stays in the second cache."""


def lookup(table: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """The table's entry for each index, shape (n,); numpy would widen all indices to eight bytes at once.

    Args:
        table: shape (k,).
        indices: unsigned, each below k, shape (n,).
    """
    found = np.empty(indices.size, table.dtype)
    for begin in range(0, indices.size, CHUNK):
        np.take(table, indices[begin : begin + CHUNK], out=found[begin : begin + CHUNK], mode="clip")
    return found
