import itertools
from typing import get_args

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dcomp.quantization import Init, kmeans
from dcomp.quantization.kmeans import Sample

INITS = get_args(Init)
nonzero = st.floats(-100, 100, width=32).filter(bool)


def squared_error(values, codebook, codes):
    return float(((values.astype(np.float64) - codebook[codes].astype(np.float64)) ** 2).sum())


@pytest.mark.parametrize("init", INITS)
@given(values=arrays(np.float32, st.integers(1, 80), elements=nonzero), bits=st.integers(1, 4))
def test_each_value_gets_its_nearest_entry(init, values, bits):
    codebook, codes = kmeans.cluster(values, bits, init)
    assert 1 <= codebook.size <= 2**bits
    assert codebook.dtype == values.dtype
    assert (np.diff(codebook) > 0).all()
    assert (codebook != 0).all()
    distances = np.abs(values[:, None].astype(np.float64) - codebook.astype(np.float64))
    assert np.array_equal(distances[np.arange(values.size), codes], distances.min(axis=1))


@pytest.mark.parametrize("init", INITS)
def test_few_distinct_values_are_kept_exactly(init):
    values = np.array([3, -1, 3, 2, -1, 7], np.float32)
    codebook, codes = kmeans.cluster(values, 2, init)
    assert np.array_equal(codebook[codes], values)


def test_no_values_make_an_empty_codebook():
    codebook, codes = kmeans.cluster(np.zeros(0, np.float32), 5)
    assert (codebook.size, codes.size) == (0, 0)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_dtypes_share_values_of_their_own_precision(dtype, rng):
    values = rng.normal(size=500).astype(dtype)
    codebook, _ = kmeans.cluster(values[values != 0], 3)
    assert codebook.dtype == dtype
    assert codebook.size == 8


def test_a_cluster_around_zero_is_not_represented_by_zero():
    codebook, codes = kmeans.cluster(np.array([-1, 1, 99, 100, 101], np.float32), 1)
    assert codebook.tolist() == [-1, 100]
    assert codes.tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("scale", [1e-170, 1.9e307, 1e-310])
def test_values_of_any_magnitude_are_shared(init, scale):
    codebook, codes = kmeans.cluster(np.linspace(1, 9, 20) * scale, 2, init)
    assert np.isfinite(codebook).all()
    assert np.abs(codebook[codes] / scale - np.linspace(1, 9, 20)).max() < 3


@given(arrays(np.float64, st.integers(2, 9), elements=st.integers(-20, 20), unique=True), st.integers(1, 5), st.data())
def test_optimal_clusters_have_the_least_squared_error(values, k, data):
    values = np.sort(values)
    k = min(k, values.size)
    counts = np.array(data.draw(st.lists(st.integers(1, 4), min_size=values.size, max_size=values.size)))
    centroids = kmeans.optimal_centroids(Sample(values, counts), k)
    result = (counts * ((values[:, None] - centroids) ** 2).min(axis=1)).sum()

    def cost(begin, end):
        mean = np.average(values[begin:end], weights=counts[begin:end])
        return (counts[begin:end] * (values[begin:end] - mean) ** 2).sum()

    cuts = itertools.combinations(range(1, values.size), k - 1)
    best = min(sum(cost(a, b) for a, b in itertools.pairwise((0, *cut, values.size))) for cut in cuts)
    assert result == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("init", INITS)
def test_no_start_beats_the_optimum_and_all_beat_no_clustering(init, rng):
    values = rng.laplace(size=3000).astype(np.float32)
    best = squared_error(values, *kmeans.cluster(values, 3, "optimal"))
    result = squared_error(values, *kmeans.cluster(values, 3, init))
    assert best - 1e-6 <= result < 0.25 * float((values.astype(np.float64) ** 2).sum())


def test_linear_and_density_centroids_start_differently(rng):
    values = np.sort(rng.exponential(size=1000))
    sample = Sample(values, np.ones(1000, int))
    linear = kmeans.initial_centroids(sample, 4, "linear", rng)
    density = kmeans.initial_centroids(sample, 4, "density", rng)
    assert np.diff(linear) == pytest.approx([(values[-1] - values[0]) / 3] * 3)
    assert density == pytest.approx(values[[125, 375, 625, 875]], rel=0.02)


def test_the_same_seed_gives_the_same_codebook(rng):
    values = rng.normal(size=1000).astype(np.float32)
    for init in ("random", "kmeans++"):
        one, other = (kmeans.cluster(values, 4, init, np.random.default_rng(5))[0] for _ in range(2))
        assert np.array_equal(one, other)


@pytest.mark.parametrize("init", INITS)
def test_each_entry_is_the_mean_of_its_members(init, rng):
    values = rng.laplace(size=400)
    codebook, codes = kmeans.cluster(values, 3, init)
    means = [values[codes == code].mean() for code in range(codebook.size)]
    assert codebook == pytest.approx(means, rel=1e-9)


@pytest.mark.parametrize("init", INITS)
def test_few_distinct_values_are_the_codebook(init):
    distinct = [-900, 1, 2, 3, 4, 5, 6, 1000]
    values = np.array([*distinct, *[1] * 500], np.float32)
    assert kmeans.cluster(values, 3, init)[0].tolist() == distinct
    assert kmeans.cluster(np.append(values, np.float32(7)), 3, init)[0].size <= 8


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_a_value_gets_the_nearer_entry_or_the_lower_one(dtype):
    codebook = np.array([-2, 1, 4], dtype)
    values = np.array([-9, -0.75, -0.5, -0.25, 2.25, 2.5, 2.75, 9], dtype)
    assert kmeans.nearest(codebook, values).tolist() == [0, 0, 0, 1, 1, 1, 2, 2]


def test_values_on_both_sides_of_a_border_have_different_codes():
    one, next_one = np.float32(1), np.nextafter(np.float32(1), np.float32(2))
    assert kmeans.nearest(np.array([one, next_one]), np.array([one, next_one])).tolist() == [0, 1]


def test_values_are_scaled_by_a_power_of_two_to_between_one_and_two():
    sample, scale = kmeans.scaled(np.array([-5.0, 3.0]), np.array([1, 2]))
    assert (scale, sample.values.tolist(), sample.counts.tolist()) == (4, [-1.25, 0.75], [1, 2])


def test_a_mean_weighs_values_by_how_often_they_occur():
    codebook, codes = kmeans.cluster(np.repeat([1.0, 2.0, 10.0], [3, 1, 2]), 1)
    assert (codebook.tolist(), codes.tolist()) == ([1.25, 10], [0, 0, 0, 0, 1, 1])


def test_density_centroids_are_weighted_quantiles(rng):
    sample = Sample(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([1, 1, 10, 1, 1]))
    assert kmeans.initial_centroids(sample, 4, "density", rng).tolist() == [2, 3, 3, 4]


def drawn(init, sample, k):
    generators = map(np.random.default_rng, range(200))
    return [kmeans.initial_centroids(sample, k, init, rng).tolist() for rng in generators]


def test_random_centroids_are_drawn_as_often_as_their_values_occur():
    result = drawn("random", Sample(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 1, 97, 1])), 2)
    assert all(one < other for one, other in result)
    assert sum(3 in centroids for centroids in result) > 180


def test_centroids_of_kmeans_plus_plus_are_drawn_far_from_those_drawn():
    result = drawn("kmeans++", Sample(np.array([1.0, 1.1, 1.2, 50.0, 99.0]), np.array([50, 50, 50, 1, 50])), 2)
    assert all(one < other for one, other in result)
    assert sum(other == 99 for _, other in result) > 180
    often = drawn("kmeans++", Sample(np.array([1.0, 2.0, 3.0]), np.array([1, 1, 1000])), 1)
    assert sum(centroids == [3] for centroids in often) > 180


def heavy_tails(rng, size=20_000):
    """Values of which a few lie far from all others, as a layer's weights may."""
    return np.concatenate([rng.laplace(size=size), [60, -80]]).astype(np.float32)


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_all_values_of_the_codebook_are_used_where_there_are_as_many(init, bits, rng):
    _, codes = kmeans.cluster(heavy_tails(rng), bits, init)
    assert np.array_equal(np.unique(codes), np.arange(2**bits))


@given(values=arrays(np.float32, st.integers(1, 80), elements=nonzero), bits=st.integers(1, 4))
def test_linear_starts_use_as_many_values_as_there_are(values, bits):
    sample, _ = kmeans.scaled(*np.unique(values, return_counts=True))
    k = min(2**bits, sample.values.size)
    centroids = kmeans.lloyd(sample, np.linspace(sample.values[0], sample.values[-1], k), k)
    assert np.unique(centroids).size == k


def test_empty_clusters_go_where_the_error_is_largest():
    values = np.concatenate([np.arange(100.0), np.arange(1000.0, 1003.0), [5000.0]])
    sample = Sample(values, np.ones(values.size, int))
    borders = kmeans.filled_clusters(sample, np.array([0, 100, 103, 103, 103, 103, 104]), 6)
    assert borders.tolist() == [0, 25, 50, 75, 100, 103, 104]


def test_clusters_are_split_by_their_error():
    sample = Sample(np.array([0.0, 1.0, 10.0, 12.0]), np.array([50, 50, 1, 1]))
    assert kmeans.filled_clusters(sample, np.array([0, 2, 4]), 3).tolist() == [0, 1, 2, 4]


def test_no_more_clusters_are_made_than_there_are_values():
    sample = Sample(np.array([1.0, 2.0, 3.0]), np.ones(3, int))
    assert kmeans.filled_clusters(sample, np.array([0, 3]), 5).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("bits", [2, 3, 5])
def test_values_of_a_huge_range_are_shared(init, bits, rng):
    tiny = rng.normal(size=50) * 1e-300
    values = np.concatenate([tiny, rng.normal(size=50), [1.7e308, -1.7e308]])
    codebook, codes = kmeans.cluster(values, bits, init)
    assert np.isfinite(codebook).all()
    assert codebook.size == 2**bits
    assert codebook[codes][-2:] == pytest.approx(values[-2:])


@pytest.mark.parametrize(
    ("init", "bits"), [("linear", 2), ("linear", 3), ("linear", 4), ("kmeans++", 5), ("optimal", 5)]
)
def test_the_squared_error_is_near_that_of_scikit_learn(init, bits, rng):
    cluster = pytest.importorskip("sklearn.cluster")
    values = rng.laplace(size=20_000).astype(np.float32)
    result = squared_error(values, *kmeans.cluster(values, bits, init))
    theirs = cluster.KMeans(2**bits, n_init=3, random_state=0).fit(values.astype(np.float64).reshape(-1, 1)).inertia_
    assert result < 1.15 * theirs
