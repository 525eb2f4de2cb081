"""Values -> codebook, codes: k-means in one dimension.

*Values* are the kept weights of one tensor, shape (n,). A *codebook* holds at most 2^bits distinct values
of the same dtype, ascending, never zero, shape (k,). *Codes* index it, shape (n,), uint16.

In one dimension clusters are intervals. So values are sorted once, and with prefix sums over them each
Lloyd step costs k binary searches and no pass over the values.
"""

from collections.abc import Callable

import numpy as np

from dcomp.quantization import Init

MAX_LLOYD_STEPS = 1000


def cluster(
    values: np.ndarray, bits: int, init: Init = "linear", rng: np.random.Generator | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Cluster `values` into at most 2^bits shared ones (paper, sections 3.1 and 3.2).

    Where there are no more distinct values than that, they are the codebook, exactly; where there are more, all shared
    values are used, except for those that rounding to the dtype makes equal.

    Args:
        values: finite and non-zero, shape (n,), any float dtype.
        bits: 1 to 16.
        init: `linear` spaces centroids evenly from the least to the greatest value, `density` evenly over
            the cumulative distribution, `random` draws them from the values (the paper's three);
            `kmeans++` draws far from those drawn; `optimal` is the exact optimum, in O(k n log n).
        rng: for `random` and `kmeans++`; seeded with 0 if absent.

    Returns:
        codebook, codes
    """
    distinct, counts = np.unique(values, return_counts=True)
    if distinct.size <= 2**bits:
        return distinct, np.searchsorted(distinct, values).astype(np.uint16)
    sample, scale = scaled(distinct, counts)
    centroids = initial_centroids(sample, 2**bits, init, rng or np.random.default_rng(0))
    codebook = np.unique(entries(lloyd(sample, centroids, 2**bits) * scale, distinct))
    return codebook, nearest(codebook, values)


def scaled(distinct: np.ndarray, counts: np.ndarray) -> tuple["Sample", float]:
    """Divide values by a power of two so that squares stay in range; return the sample and the power."""
    exact = distinct.astype(np.float64)
    scale = float(np.ldexp(1.0, int(np.frexp(np.abs(exact).max())[1]) - 1))
    return Sample(exact / scale, counts), scale


def entries(centroids: np.ndarray, distinct: np.ndarray) -> np.ndarray:
    """Round centroids to the dtype of the values; one that becomes zero is replaced by the value nearest to zero."""
    codebook = centroids.astype(distinct.dtype)
    codebook[codebook == 0] = distinct[np.argmin(np.abs(distinct))]
    return codebook


def nearest(codebook: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the code of the codebook entry nearest to each value, shape (n,), uint16."""
    exact = codebook.astype(np.float64)
    borders = exact[1:] / 2 + exact[:-1] / 2
    if values.dtype == np.float32:  # round the borders down: v > border then decides as in double precision
        rounded = borders.astype(np.float32)
        borders = np.where(rounded > borders, np.nextafter(rounded, np.float32(-np.inf)), rounded)
        return np.searchsorted(borders, values).astype(np.uint16)
    return np.searchsorted(borders, values.astype(np.float64)).astype(np.uint16)


class Sample:
    """Distinct values, ascending, how often each occurs, and prefix sums over both: sums[i] is of values[:i]."""

    def __init__(self, values: np.ndarray, counts: np.ndarray) -> None:
        self.values = values
        self.counts = counts
        self.weight_sums = np.concatenate([[0], np.cumsum(counts)])
        self.value_sums = np.concatenate([[0.0], np.cumsum(values * counts)])

    def means(self, borders: np.ndarray) -> np.ndarray:
        """Return the mean of each cluster values[borders[j]:borders[j + 1]], none of them empty, shape (k,)."""
        means = np.diff(self.value_sums[borders]) / np.diff(self.weight_sums[borders])
        return np.clip(means, self.values[borders[:-1]], self.values[borders[1:] - 1])  # rounding must not mix them up


def lloyd(sample: Sample, centroids: np.ndarray, k: int) -> np.ndarray:
    """Move centroids to the means of their members until no border moves, shape (k,).

    A centroid without members moves to where the error is largest; it is dropped if no value is left for it.
    """
    borders = np.array([], np.intp)
    for _ in range(MAX_LLOYD_STEPS):
        moved = filled_clusters(sample, borders_between(sample, centroids), k)
        if np.array_equal(moved, borders):
            break
        borders = moved
        centroids = sample.means(borders)
    return centroids


def borders_between(sample: Sample, centroids: np.ndarray) -> np.ndarray:
    """Return where the cluster of each centroid begins, and the last one ends; shape (k + 1,)."""
    inner = np.searchsorted(sample.values, (centroids[1:] + centroids[:-1]) / 2)
    return np.concatenate([[0], inner, [sample.values.size]])


def filled_clusters(sample: Sample, borders: np.ndarray, k: int) -> np.ndarray:
    """Make k clusters, none of them empty: for each missing cluster, split one with a large error at its mean.

    A cluster of even density has an eighth of the error left in each half. So the clusters above an eighth of the
    largest error are split together, and what is split first does not matter.

    Returns:
        borders, ascending, shape (k + 1,), or fewer where all clusters hold a single value.
    """
    borders = np.unique(borders)
    while borders.size <= k:
        means = sample.means(borders)
        first, last = sample.values[borders[:-1]], sample.values[borders[1:] - 1]
        distances = (sample.values - np.repeat(means, np.diff(borders))) ** 2 * sample.counts
        errors = np.add.reduceat(distances, borders[:-1])
        worst = np.lexsort((last - first, errors))[::-1]  # where all squares are 0, the width decides
        worst = worst[(first < last)[worst] & (errors[worst] >= errors.max() / 8)][: k + 1 - borders.size]
        if not worst.size:
            break
        splits = np.searchsorted(sample.values, means[worst], side="right")
        splits = np.clip(splits, borders[worst] + 1, borders[worst + 1] - 1)
        borders = np.union1d(borders, splits)
    return borders


def initial_centroids(sample: Sample, k: int, init: Init, rng: np.random.Generator) -> np.ndarray:
    """Return ascending starting points, at most k; k is less than the number of distinct values."""
    match init:
        case "linear":
            return np.linspace(sample.values[0], sample.values[-1], k)
        case "density":
            quantiles = (np.arange(k) + 0.5) / k * sample.weight_sums[-1]
            return sample.values[np.searchsorted(sample.weight_sums[1:], quantiles)]
        case "random":
            share_of = sample.counts / sample.weight_sums[-1]
            return np.sort(rng.choice(sample.values, k, replace=False, p=share_of))
        case "kmeans++":
            return _kmeans_plus_plus(sample, k, rng)
        case "optimal":
            return optimal_centroids(sample, k)


def _kmeans_plus_plus(sample: Sample, k: int, rng: np.random.Generator) -> np.ndarray:
    """Draw each centroid with a probability that grows with its squared distance from those drawn before.

    Values of float64 may be so far apart that all other squares round to 0; then no more centroids are drawn, and
    `filled_clusters` adds the missing clusters.
    """
    chosen = [rng.choice(sample.values, p=sample.counts / sample.weight_sums[-1])]
    distances = np.full(sample.values.size, np.inf)
    for _ in range(k - 1):
        np.minimum(distances, (sample.values - chosen[-1]) ** 2, out=distances)
        masses = np.cumsum(distances * sample.counts)
        if masses[-1] == 0:
            break
        place = np.searchsorted(masses, rng.random() * masses[-1], side="right")
        chosen.append(sample.values[min(place, sample.values.size - 1)])
    return np.sort(np.array(chosen))


def optimal_centroids(sample: Sample, k: int) -> np.ndarray:
    """Return the means of the clusters with the least squared error, by dynamic programming over borders.

    The best last border moves right as the end of the sample does, so each of the k rows is solved by
    divide and conquer (Wu 1991; Grønlund et al. 2017, "Fast Exact k-Means ... in 1D"), all
    subproblems of one depth in one go. Takes 4 k n bytes for n distinct values.
    """
    centered = Sample(sample.values - sample.value_sums[-1] / sample.weight_sums[-1], sample.counts)
    weights, sums = centered.weight_sums, centered.value_sums

    def gain(begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Return by how much the cluster values[begin:end] reduces the sum of squares."""
        return (sums[end] - sums[begin]) ** 2 / np.maximum(weights[end] - weights[begin], 1)

    n = sample.values.size
    ends = np.arange(n + 1)
    total = gain(np.zeros_like(ends), ends)  # the best total gain with one cluster over values[:end]
    last_borders = np.zeros((k, n + 1), np.int32)
    for row in range(1, k):
        total, last_borders[row] = _best_splits(total, gain, row)
    borders = np.empty(k + 1, np.intp)
    borders[k] = n
    for row in range(k - 1, -1, -1):
        borders[row] = last_borders[row, borders[row + 1]]
    return sample.means(borders)


def _best_splits(
    total: np.ndarray, gain: Callable[[np.ndarray, np.ndarray], np.ndarray], row: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each end the border b that maximizes total[b] + gain(b, end), with at least `row` values before it."""
    n = total.size - 1
    best = np.full(n + 1, -np.inf)
    border = np.zeros(n + 1, np.int32)
    first = np.array([row + 1])  # subproblems: the ends first..last, with borders in low..high
    last = np.array([n])
    low, high = np.array([row]), np.array([n - 1])
    while first.size:
        middle = (first + last) // 2
        width = np.minimum(high, middle - 1) - low + 1
        starts = np.cumsum(width) - width
        candidates = np.arange(width.sum()) - np.repeat(starts - low, width)
        scores = total[candidates] + gain(candidates, np.repeat(middle, width))
        best[middle] = np.maximum.reduceat(scores, starts)
        hits = np.flatnonzero(scores == np.repeat(best[middle], width))
        split = candidates[hits[np.searchsorted(hits, starts)]]
        border[middle] = split
        first, last = np.concatenate([first, middle + 1]), np.concatenate([middle - 1, last])
        low, high = np.concatenate([low, split]), np.concatenate([split, high])
        alive = first <= last
        first, last, low, high = first[alive], last[alive], low[alive], high[alive]
    return best, border
