import numpy as np
import pytest
import torch
from torch import nn

from dcomp.learning.averaging import Average
from dcomp.learning.held_weights import HeldWeights


def line(value: float) -> nn.Module:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def averaging(model: nn.Module, decay: float) -> Average:
    return Average(model, HeldWeights(model), decay)


def test_an_average_moves_faster_in_the_first_steps():
    model = line(1.0)
    average = averaging(model, 0.75)
    nn.init.constant_(model.weight, 2.0)
    average.step(1)
    assert average.tensors[0].item() == pytest.approx(1 * 2 / 11 + 2 * 9 / 11)
    before = average.tensors[0].item()
    average.step(1000)
    assert average.tensors[0].item() == pytest.approx(0.75 * before + 0.25 * 2)


def test_a_model_has_the_averages_within_the_block_only():
    model = line(1.0)
    average = averaging(model, 0.5)
    nn.init.constant_(model.weight, 3.0)
    with average.in_place():
        assert model.weight.item() == 1
    assert model.weight.item() == 3
    model(torch.ones(1, 1)).backward()
    assert model.weight.grad.item() == 1


def test_an_average_goes_on_from_what_was_kept():
    average = averaging(line(1.0), 0.5)
    average.restore([torch.full((1, 1), 7.0)])
    assert average.tensors[0].item() == 7


def test_statistics_of_normalization_are_averaged_too():
    model = nn.BatchNorm1d(1)
    average = averaging(model, 0.5)
    model.running_mean.fill_(3.0)
    average.step(1000)
    with average.in_place():
        assert model.running_mean.item() == 1.5
    assert model.running_mean.item() == 3
    assert model.num_batches_tracked.dtype == torch.long


def test_averages_of_pruned_weights_are_zero():
    model = nn.Linear(2, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    held = HeldWeights(model)
    average = Average(model, held, 0.5)
    held.mask("weight", np.array([[True, False]]))
    average.step(1000)
    with average.in_place():
        assert model.weight.tolist() == [[1, 0]]
