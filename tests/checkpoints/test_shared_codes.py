"""Quantized checkpoints of another implementation: shared values and codes beside masks."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune

from dcomp.errors import CheckpointError
from dcomp.sources import load_checkpoint


def looked_up(module, inputs):
    """Compute the weight as the other implementation does, before each forward pass."""
    values = functional.embedding(module.weight_indices, module.weight_centers)
    flat = module.weight_mask.detach().flatten()
    flat[torch.argwhere(flat)] = values.view(-1, 1)
    module.weight = flat.view(module.weight_mask.shape)


def quantized(layer, bits=2):
    """A pruned layer whose weights are looked up, with the names and shapes that the other implementation gives."""
    prune.l1_unstructured(layer, "weight", amount=0.5)
    kept = layer.weight.detach()[layer.weight_mask != 0]
    centers = torch.linspace(float(kept.min()), float(kept.max()), 2**bits).view(-1, 1)
    layer.register_parameter("weight_centers", nn.Parameter(centers))
    layer.register_buffer("weight_indices", (kept.view(-1, 1) - centers.view(1, -1)).abs().argmin(1).int())
    layer.register_forward_pre_hook(looked_up)
    return layer


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(quantized(nn.Conv2d(1, 4, 3)), nn.Flatten(), quantized(nn.Linear(16, 5)))


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 3}])
def test_values_and_codes_are_read_as_the_weights_that_they_stand_for(tmp_path, network, wrap):
    output = network(torch.ones(1, 1, 4, 4))
    torch.save(wrap(network.state_dict()), tmp_path / "model.ckpt")
    tensors = load_checkpoint(tmp_path / "model.ckpt").tensors
    assert set(tensors) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert np.array_equal(tensors["0.weight"], network[0].weight.detach().numpy())
    assert (tensors["2.weight"] == 0).mean() == 0.5
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 5))
    plain.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in tensors.items()})
    assert torch.equal(plain(torch.ones(1, 1, 4, 4)), output)


STATE = {
    "fc.weight_centers": torch.tensor([[1.0], [2.0]]),
    "fc.weight_indices": torch.tensor([0, 1, 1]),
    "fc.weight_mask": torch.tensor([[1.0, 0.0], [1.0, 1.0]]),
}


def load(tmp_path, **changed):
    state = {name: tensor for name, tensor in {**STATE, **changed}.items() if tensor is not None}
    torch.save(state, tmp_path / "model.pth")
    return {name: array.tolist() for name, array in load_checkpoint(tmp_path / "model.pth").tensors.items()}


def test_a_weight_beside_its_codes_gives_the_shape(tmp_path):
    weight, mask = torch.tensor([[3.0, 0.0], [3.0, 3.0]]), {"fc.weight_mask": None}
    assert load(tmp_path, **mask, **{"fc.weight": weight}) == {"fc.weight": [[1, 0], [2, 2]]}
    codes = torch.tensor([0, 1, 1, 0])
    assert load(tmp_path, **mask, **{"fc.weight": weight, "fc.weight_indices": codes}) == {
        "fc.weight": [[1, 2], [2, 1]]
    }
    codes = codes.view(2, 2)
    assert load(tmp_path, **mask, **{"fc.weight_indices": codes}) == {"fc.weight": [[1, 2], [2, 1]]}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"fc.weight_indices": torch.tensor([0, 1, 2])}, "has codes from 0 to 2, and 'fc.weight_centers' has 2 values"),
        ({"fc.weight_indices": torch.tensor([0, -1, 1])}, "has codes from -1 to 1"),
        ({"fc.weight_indices": torch.tensor([0, 1])}, "has 2 codes for 3 weights that 'fc.weight_mask' keeps"),
        ({"fc.weight_mask": None}, "not its shape, which only 'fc.weight_mask' or 'fc.weight_orig' would say"),
        ({"fc.weight_orig": torch.ones(4)}, "the mask and the original of 'fc.weight' have two shapes"),
    ],
)
def test_codes_that_fit_nothing_are_refused(tmp_path, changed, words):
    with pytest.raises(CheckpointError, match=words):
        load(tmp_path, **changed)


def test_names_that_only_look_like_codes_are_left_alone(tmp_path):
    state = {"weight_centers": torch.ones(4, 2), "weight_indices": torch.ones(3).int(), "anchor_centers": torch.ones(3)}
    torch.save(state, tmp_path / "model.pth")
    assert list(load_checkpoint(tmp_path / "model.pth").tensors) == list(state)
