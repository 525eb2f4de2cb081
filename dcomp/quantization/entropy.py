"""Values -> codebook, codes, as in `kmeans`, where the bits of the codes count too.

What is minimized, over the kept weights v of one tensor, is

    sum of (v - c)^2 / mean(v^2)  +  rate weight * bits of their codes

where the code of a shared value c takes -log2 of the frequency of c (Chou, Lookabaugh, Gray 1989, "Entropy-Constrained
Vector Quantization"). The distance is relative to the mean square, so that one rate weight suits all tensors. As a
function of v the cost of a code is v^2, which all codes have in common, plus a line. So the cell of a code is the
interval where its line is the lowest, and a code whose line is the lowest nowhere vanishes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dcomp.quantization import Init, kmeans
from dcomp.quantization.kmeans import MAX_LLOYD_STEPS, Sample

DROPPED_PART = 1 / 64
"""Part of the codes that is dropped at a time. Not measured."""


def cluster_with_rate(
    values: np.ndarray,
    bits: int,
    rate_weight: float,
    init: Init = "linear",
    rng: np.random.Generator | None = None,
    *,
    codebook_bits: Callable[[int], float] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Cluster `values` into at most 2^bits shared ones, or fewer if that costs less.

    Args:
        values: finite and non-zero, shape (n,), any float dtype.
        bits: 1 to 16.
        rate_weight: the part of the mean square that a bit is worth; at 0 it is k-means.
        init: where centroids start, as for `kmeans.cluster`.
        rng: as for `kmeans.cluster`.
        codebook_bits: from the number of shared values to the bits of their codebook; 0 if absent.

    Returns:
        codebook, codes
    """
    if rate_weight == 0:
        return kmeans.cluster(values, bits, init, rng)
    distinct, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    if distinct.size <= 1:
        return distinct, np.zeros(values.size, np.uint16)
    sample, scale = kmeans.scaled(distinct, counts)
    centroids = sample.values
    if distinct.size > 2**bits:
        start = kmeans.initial_centroids(sample, 2**bits, init, rng or np.random.default_rng(0))
        centroids = kmeans.lloyd(sample, start, 2**bits)  # none of them is empty
    coder = _Coder(sample, rate_weight, codebook_bits or (lambda size: 0.0))
    cells = coder.with_fewer_codes(coder.converged(np.unique(centroids)))
    codebook, codes = np.unique(kmeans.entries(cells.centroids * scale, distinct), return_inverse=True)
    return codebook, np.repeat(codes, np.diff(cells.borders))[places].astype(np.uint16)


@dataclass(frozen=True)
class _Cells:
    """Codes in use: code j stands for the distinct values borders[j]:borders[j + 1].

    Attributes:
        borders: shape (k + 1,), from 0 to the number of distinct values.
        centroids: means of the cells, ascending, shape (k,).
        lengths: of the codes in bits, shape (k,).
    """

    borders: np.ndarray
    centroids: np.ndarray
    lengths: np.ndarray


class _Coder:
    """Distinct values, and the price of a bit."""

    def __init__(self, sample: Sample, rate_weight: float, codebook_bits: Callable[[int], float]) -> None:
        self._sample = sample
        self._total = int(sample.weight_sums[-1])
        self._squares = float((sample.values**2 * sample.counts).sum())
        self._price = rate_weight * self._squares / self._total
        self._codebook_bits = codebook_bits

    def converged(self, centroids: np.ndarray, lengths: np.ndarray | None = None) -> _Cells:
        """Move codes until no border moves; drop those whose cell is empty.

        Args:
            centroids: distinct, ascending.
            lengths: of their codes; all the same if absent.
        """
        cells = _Cells(np.zeros(1, np.intp), centroids, np.zeros(centroids.size) if lengths is None else lengths)
        for _ in range(MAX_LLOYD_STEPS):
            borders = self._borders(cells)
            if np.array_equal(borders, cells.borders):
                break
            cells = self._cells(borders)
        return cells

    def with_fewer_codes(self, cells: _Cells) -> _Cells:
        """Drop codes step by step, the cheapest first, down to one; return the cells with the least cost."""
        best, least = cells, self._cost(cells)
        while (size := cells.centroids.size) > 1:
            cheapest = np.argsort(self._drop_costs(cells))[: max(1, int(size * DROPPED_PART))]
            cells = self.converged(np.delete(cells.centroids, cheapest), np.delete(cells.lengths, cheapest))
            cost = self._cost(cells)
            if cost < least:
                best, least = cells, cost
        return best

    def _borders(self, cells: _Cells) -> np.ndarray:
        """Return where the cells of the codes begin and end, without empty ones."""
        between = _envelope(cells.centroids, self._price * cells.lengths)
        inner = np.searchsorted(self._sample.values, between)
        return np.unique(np.concatenate([[0], inner, [self._sample.values.size]]))

    def _cells(self, borders: np.ndarray) -> _Cells:
        counts = np.diff(self._sample.weight_sums[borders])
        return _Cells(borders, self._sample.means(borders), -np.log2(counts / self._total))

    def _cost(self, cells: _Cells) -> float:
        """Return the cost that is minimized, times the mean square."""
        counts = np.diff(self._sample.weight_sums[cells.borders])
        distance = self._squares - float((cells.centroids**2 * counts).sum())
        bits = float((cells.lengths * counts).sum()) + self._codebook_bits(counts.size)
        return distance + self._price * bits

    def _drop_costs(self, cells: _Cells) -> np.ndarray:
        """Return the growth of the cost if a code's members go to its cheaper neighbours; shape (k,)."""
        sample, size = self._sample, cells.centroids.size
        codes = np.arange(size)
        below, above = np.maximum(codes - 1, 0), np.minimum(codes + 1, size - 1)
        prices = self._price * cells.lengths
        middle = _border(cells.centroids[below], prices[below], cells.centroids[above], prices[above])
        split = np.clip(np.searchsorted(sample.values, middle), cells.borders[:-1], cells.borders[1:])
        split[0], split[-1] = cells.borders[0], cells.borders[-1]  # the first and last code have one neighbour

        def growth(begin: np.ndarray, end: np.ndarray, neighbour: np.ndarray) -> np.ndarray:
            count = sample.weight_sums[end] - sample.weight_sums[begin]
            total = sample.value_sums[end] - sample.value_sums[begin]
            moved = cells.centroids[neighbour] - cells.centroids
            offset = cells.centroids[neighbour] ** 2 - cells.centroids**2 + prices[neighbour] - prices
            return offset * count - 2 * moved * total

        return growth(cells.borders[:-1], split, below) + growth(split, cells.borders[1:], above)


def _envelope(centroids: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """Return the borders between the codes that are the cheapest somewhere, ascending.

    A code whose upper border is below its lower one is nowhere cheaper than both neighbours. All such codes are dropped
    at once: a code that is never the cheapest of some codes is never the cheapest of all.
    """
    while True:
        borders = _border(centroids[:-1], prices[:-1], centroids[1:], prices[1:])
        beaten = np.flatnonzero(borders[1:] <= borders[:-1]) + 1
        if not beaten.size:
            return borders
        centroids, prices = np.delete(centroids, beaten), np.delete(prices, beaten)


def _border(below: np.ndarray, price_below: np.ndarray, above: np.ndarray, price_above: np.ndarray) -> np.ndarray:
    """Return the value above which the upper of two codes is the cheaper one."""
    with np.errstate(over="ignore"):  # the border of codes next to each other may exceed all floats
        return (below + above) / 2 + (price_above - price_below) / (2 * (above - below))
