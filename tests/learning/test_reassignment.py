import numpy as np
import pytest
import torch
from torch import nn

from dcomp.learning import fisher
from dcomp.learning.datasets import MemorySplit, Preprocessing
from dcomp.learning.losses import Loss
from dcomp.learning.reassignment import reassign
from dcomp.settings import QuantizeSettings

SETTINGS = QuantizeSettings(fc_bits=2, data="digits", epochs=1, batch_size=32, reassign=0)
VALUES = torch.tensor([-0.5, -0.25, 0.0, 0.25, 0.5])


@pytest.fixture
def train() -> MemorySplit:
    images = torch.randint(0, 256, (640, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return MemorySplit(images, images[:, 0, 0].argmax(1), Preprocessing((0.5,), (0.3,)))


@pytest.fixture
def model() -> nn.Module:
    """The first four pixels decide; the other weights are small change, of many values and worth nothing."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4, bias=False))
    with torch.no_grad():
        weight = VALUES[torch.randint(0, 5, (4, 16))] / 100
        weight[:, :4] = 2 * torch.eye(4) - 1
        model[1].weight.copy_(weight)
    return model


def mean_loss(model, train):
    with torch.no_grad():
        losses = list(fisher.losses(model, train, SETTINGS, Loss(SETTINGS), SETTINGS.seed))
    return torch.stack(losses).mean().item()


def entropy(values):
    _, counts = np.unique(values, return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def test_codes_become_shorter_and_the_loss_no_higher(model, train):
    before, loss = model[1].weight.detach().numpy().copy(), mean_loss(model, train)
    saved = reassign(model, {"w": model[1].weight}, train, SETTINGS, Loss(SETTINGS))
    after = model[1].weight.detach().numpy()
    assert saved > 0
    assert mean_loss(model, train) <= loss
    assert np.array_equal(after != 0, before != 0)
    assert set(after[after != 0]) <= set(before[before != 0])
    assert entropy(after[after != 0]) < entropy(before[before != 0])


def test_codes_that_cost_loss_are_taken_only_as_far_as_that_may_rise(train):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4, bias=False))
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].weight[:, :4] = 2 * torch.eye(4) - 1
    before = model[1].weight.detach().clone()
    assert reassign(model, {"w": model[1].weight}, train, SETTINGS, Loss(SETTINGS)) == 0
    assert torch.equal(model[1].weight, before)
    generous = SETTINGS.model_copy(update={"reassign": 100.0})
    assert reassign(model, {"w": model[1].weight}, train, generous, Loss(generous)) > 0
    assert model[1].weight.unique().tolist() == [-1, 0]


def test_a_tensor_of_which_nothing_is_kept_is_left_alone(model, train):
    with torch.no_grad():
        model[1].weight.zero_()
    assert reassign(model, {"w": model[1].weight}, train, SETTINGS, Loss(SETTINGS)) == 0
