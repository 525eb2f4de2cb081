from typing import get_args

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dcomp.quantization import Init, entropy, kmeans

INITS = get_args(Init)
nonzero = st.floats(-100, 100, width=32).filter(bool)
some_values = arrays(np.float32, st.integers(1, 80), elements=nonzero)


def distance(values, codebook, codes):
    """Relative to the mean square, summed."""
    exact = values.astype(np.float64)
    return float(((exact - codebook[codes]) ** 2).sum() / (exact**2).mean())


def bits(codes):
    """What all codes take at the lengths that their frequencies ask for."""
    counts = np.unique(codes, return_counts=True)[1]
    return float(-(counts * np.log2(counts / codes.size)).sum())


def cost(values, rate_weight, shared):
    return distance(values, *shared) + rate_weight * bits(shared[1])


@pytest.mark.parametrize("init", INITS)
@given(values=some_values, most=st.integers(1, 4), rate_weight=st.floats(0, 10), entry_bits=st.sampled_from([0, 32]))
def test_a_codebook_is_ascending_without_zero_and_all_of_it_is_in_use(init, values, most, rate_weight, entry_bits):
    codebook, codes = entropy.cluster_with_rate(
        values, most, rate_weight, init, codebook_bits=lambda size: entry_bits * size
    )
    assert 1 <= codebook.size <= 2**most
    assert codebook.dtype == values.dtype
    assert (np.diff(codebook) > 0).all()
    assert (codebook != 0).all()
    assert np.array_equal(np.unique(codes), np.arange(codebook.size))


@pytest.mark.parametrize("init", INITS)
@given(values=some_values, most=st.integers(1, 4))
def test_where_bits_cost_nothing_it_is_plain_k_means(init, values, most):
    plain = distance(values, *kmeans.cluster(values, most, init))
    assert distance(values, *entropy.cluster_with_rate(values, most, 0, init)) <= plain


@given(values=some_values, most=st.integers(1, 4), rate_weight=st.floats(1e-4, 10))
def test_the_cost_is_at_most_that_of_k_means(values, most, rate_weight):
    best = kmeans.cluster(values, most, "optimal")
    result = entropy.cluster_with_rate(values, most, rate_weight, "optimal")
    assert cost(values, rate_weight, result) <= cost(values, rate_weight, best) * (1 + 1e-6) + 1e-9
    assert bits(result[1]) <= bits(best[1]) + 1e-6 / rate_weight


@pytest.mark.parametrize("init", INITS)
def test_entropy_falls_with_a_larger_rate_weight(init, rng):
    values = rng.laplace(size=3000).astype(np.float32)
    result = [
        bits(entropy.cluster_with_rate(values, 5, weight, init)[1])
        for weight in (0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 3)
    ]
    assert result == sorted(result, reverse=True)
    assert result[0] > 3000 * 3
    assert result[-1] == 0


@pytest.mark.parametrize("rate_weight", [0.002, 0.02, 0.2])
def test_each_value_has_the_code_that_costs_least(rate_weight, rng):
    values = rng.normal(size=1000)
    codebook, codes = entropy.cluster_with_rate(values, 4, rate_weight)
    lengths = -np.log2(np.bincount(codes) / codes.size)
    costs = (values[:, None] - codebook) ** 2 / (values**2).mean() + rate_weight * lengths
    assert np.array_equal(codes, costs.argmin(axis=1))


def test_the_size_that_a_codebook_is_worth_is_found(rng):
    """No number of values that is begun with, and kept, comes to less."""
    values = rng.laplace(size=500).astype(np.float32)
    entry = 0.01 * 32
    free = entropy.cluster_with_rate(values, 8, 0.01, codebook_bits=lambda size: 32.0 * size)
    fixed = [kmeans.cluster(values, most, "optimal") for most in range(1, 9)]
    fixed += [entropy.cluster_with_rate(values, most, 0.01) for most in range(1, 9)]
    assert 8 < free[0].size < 32
    for other in fixed:
        assert cost(values, 0.01, free) + entry * free[0].size < cost(values, 0.01, other) + entry * other[0].size


def test_one_rate_weight_suits_all_magnitudes(rng):
    values = rng.laplace(size=1000)
    for scale in (1e-170, 1e-3, 1e300):
        assert np.array_equal(
            entropy.cluster_with_rate(values * scale, 4, 0.01)[1], entropy.cluster_with_rate(values, 4, 0.01)[1]
        )


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_dtypes_share_values_of_their_own_precision(dtype, rng):
    values = rng.normal(size=500).astype(dtype)
    codebook, codes = entropy.cluster_with_rate(values[values != 0], 3, 0.001)
    assert codebook.dtype == dtype
    assert codebook.size == 8
    assert distance(values[values != 0], codebook, codes) < 25


def test_no_values_make_an_empty_codebook():
    codebook, codes = entropy.cluster_with_rate(np.zeros(0, np.float32), 5, 0.1)
    assert (codebook.size, codes.size) == (0, 0)


def test_a_cluster_around_zero_is_not_represented_by_zero():
    codebook, codes = entropy.cluster_with_rate(np.array([-1, 1, 99, 100, 101], np.float32), 1, 1e-6)
    assert codebook.tolist() == [-1, 100]
    assert codes.tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("init", INITS)
def test_at_a_rate_weight_of_zero_the_codebook_is_that_of_k_means(init, rng):
    values = rng.laplace(size=300).astype(np.float32)
    plain, result = kmeans.cluster(values, 5, init), entropy.cluster_with_rate(values, 5, 0, init)
    assert np.array_equal(plain[0], result[0])
    assert np.array_equal(plain[1], result[1])


@pytest.mark.parametrize("rate_weight", [0.002, 0.02, 0.2])
def test_each_entry_is_the_mean_of_its_members(rate_weight, rng):
    values = rng.laplace(size=400)
    codebook, codes = entropy.cluster_with_rate(values, 4, rate_weight)
    assert codebook == pytest.approx([values[codes == code].mean() for code in range(codebook.size)], rel=1e-9)


@pytest.mark.parametrize("rate_weight", [0.003, 0.03])
def test_no_code_could_be_left_out_to_advantage(rate_weight, rng):
    values = rng.laplace(size=400)
    codebook, codes = entropy.cluster_with_rate(values, 4, rate_weight)
    least = cost(values, rate_weight, (codebook, codes))
    assert codebook.size > 2
    for dropped in range(codebook.size):
        remaining = np.delete(codebook, dropped)
        assert cost(values, rate_weight, (remaining, kmeans.nearest(remaining, values))) > least


def test_a_single_value_is_its_own_codebook():
    codebook, codes = entropy.cluster_with_rate(np.full(5, 3, np.float32), 4, 0.1)
    assert (codebook.tolist(), codes.tolist()) == ([3], [0] * 5)


def test_few_values_stay_where_bits_cost_little(rng):
    values = rng.choice(np.array([-3, -1, 2, 5], np.float32), 200)
    codebook, codes = entropy.cluster_with_rate(values, 2, 1e-4)
    assert np.array_equal(codebook[codes], values)


def test_values_are_weighed_by_how_often_they_occur():
    values = np.repeat(np.array([1.0, 2.0, 10.0]), [98, 1, 50])
    codebook, codes = entropy.cluster_with_rate(values, 8, 0.05)
    assert codebook == pytest.approx([100 / 99, 10])
    assert np.bincount(codes).tolist() == [99, 50]
