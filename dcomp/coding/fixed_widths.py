"""What gaps take in fields of fixed width, without Huffman coding: the sizes that a report compares with."""

import numpy as np

from dcomp.coding.sparse_index import occurrences_of

WIDEST_FIELD = 64
"""Bits of a field that holds any gap."""


class FixedWidths:
    """Sums of the bits of gaps and their fillers in fields of each width."""

    def __init__(self) -> None:
        self._gaps = self._longest = 0
        self._fillers = np.zeros(WIDEST_FIELD, np.int64)

    def add(self, gaps: np.ndarray) -> None:
        """Count gaps, shape (n,)."""
        if gaps.size == 0:
            return
        lengths, occurrences = occurrences_of(gaps)
        self._gaps += gaps.size
        self._longest = max(self._longest, int(lengths[-1]))
        for width in range(1, int(lengths[-1] + 1).bit_length() + 1):
            self._fillers[width - 1] += (lengths // ((1 << width) - 1) * occurrences).sum()

    @property
    def bits(self) -> int:
        """Bits of all gaps in fields of the one width that suits them best; 0 if there are none."""
        widest = (self._longest + 1).bit_length()
        return min(width * (self._gaps + int(count)) for width, count in enumerate(self._fillers[:widest], 1))
