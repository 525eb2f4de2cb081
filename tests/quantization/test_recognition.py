import ml_dtypes
import numpy as np
import pytest
import torch

from dcomp.quantization.recognition import is_shared, is_unclear


@pytest.mark.parametrize(("weights", "values"), [(500, 256), (50, 32), (4, 2)])
def test_few_weights_of_fewer_values_are_a_codebook(weights, values):
    rng = np.random.default_rng(0)
    codes = np.concatenate([np.arange(values), rng.integers(0, values, weights - values)])
    assert is_shared(rng.normal(size=values).astype(np.float32)[codes])
    assert not is_shared(rng.normal(size=weights).astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("count", [50, 290, 5000])
def test_trained_weights_of_16_bits_are_no_codebook(dtype, count):
    weights = 0.05 * torch.randn(count, generator=torch.Generator().manual_seed(0))
    assert not is_shared(weights.numpy().astype(dtype))


def shared_values(dtype, values, weights):
    rng = np.random.default_rng(0)
    codes = np.concatenate([np.arange(values), rng.integers(0, values, weights - values)])
    return np.unique(rng.normal(size=2 * values).astype(dtype))[:values][codes]


@pytest.mark.parametrize(
    ("values", "weights", "shared"),
    [(257, 600, True), (257, 500, False), (256, 300, True), (65_536, 200_000, True), (65_537, 200_000, False)],
)
def test_up_to_65536_values_are_a_codebook_with_two_weights_each(values, weights, shared):
    assert is_shared(shared_values(np.float32, values, weights)) is shared


def test_all_values_of_a_tensor_count():
    weights = np.concatenate([shared_values(np.float32, 1000, 1 << 18), shared_values(np.float32, 99_000, 99_000)])
    assert not is_shared(weights)


@pytest.mark.parametrize(("kept", "values", "shared"), [(8, 7, True), (8, 8, False), (16, 14, True), (16, 15, False)])
def test_a_codebook_has_at_most_seven_values_for_eight_weights(kept, values, shared):
    weights = np.arange(kept) % values + 1
    assert is_shared(weights.astype(np.float32)) == shared
    assert not is_shared(np.zeros(8, np.float32))


def test_a_codebook_has_no_more_values_than_its_bits_allow():
    weights = np.concatenate([np.full(2000, 1), np.arange(1, 256), np.full(20_000, 1)]).astype(np.float32)
    assert is_shared(np.append(weights, np.float32(256)))
    late = np.append(weights, np.arange(256, 70_000).repeat(2)).astype(np.float32)
    assert not is_shared(late)


@pytest.mark.parametrize("kind", [ml_dtypes.bfloat16, np.float16])
def test_more_than_256_values_of_16_bits_are_unclear(kind):
    weights = np.random.default_rng(0).normal(size=(200, 500)).astype(np.float32)
    assert is_unclear(weights.astype(kind).astype(np.float32))
    assert not is_unclear(weights)
