import numpy as np
import pytest
import torch
from torch import nn

from dcomp.learning import weights


@pytest.fixture
def model() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5))
    with torch.no_grad():
        model[0].weight[0] = 0
    return model


def test_sparsities_count_the_zeros_of_weights_that_are_no_biases(model):
    assert weights.sparsities(model) == {"0.weight": 0.25, "2.weight": 0}
    assert weights.sparsity(model) == 9 / 756


def test_weights_are_read_by_name_and_are_no_biases(model):
    tensors = weights.tensors_of(model)
    assert {name: array.shape for name, array in tensors.items()} == {"0.weight": (4, 1, 3, 3), "2.weight": (5, 144)}
    assert np.array_equal(tensors["0.weight"], model[0].weight.detach().numpy())


def test_tied_weights_have_all_of_their_names():
    model = nn.ModuleDict({"embedding": nn.Embedding(20, 8), "head": nn.Linear(8, 20, bias=False)})
    model["head"].weight = model["embedding"].weight
    with torch.no_grad():
        model["head"].weight[:5] = 0
    assert weights.sparsities(model) == {"embedding.weight": 0.25, "head.weight": 0.25}


def test_tied_weights_count_once_in_the_sparsity_of_all():
    model = nn.ModuleDict({"embedding": nn.Embedding(20, 8), "head": nn.Linear(8, 20), "first": nn.Linear(8, 20)})
    model["head"].weight = model["embedding"].weight
    with torch.no_grad():
        model["head"].weight[:] = 0
    assert weights.sparsity(model) == 0.5
