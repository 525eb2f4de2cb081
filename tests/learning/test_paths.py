import numpy as np
import pytest
import torch
from torch import nn

from dcomp.errors import UsageError
from dcomp.learning import constraints, paths

IMAGES = torch.zeros(1, 1, 6, 6)


def network() -> nn.Module:
    """Two channels, two hidden units, two classes; every weight is there, some below zero."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.BatchNorm2d(2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * 4, 2),
        nn.ReLU(),
        nn.Linear(2, 2),
    )


def test_in_a_dense_network_everything_is_alive():
    assert all(mask.all() for mask in paths.alive(network(), IMAGES).values())


def test_a_unit_without_output_takes_its_weights_and_its_bias_along():
    model = network()
    with torch.no_grad():
        model[7].weight[:, 0] = 0
    alive = paths.alive(model, IMAGES)
    assert not alive["5.weight"][0].any()
    assert alive["5.weight"][1].all()
    assert alive["5.bias"].tolist() == [False, True]
    assert alive["7.bias"].all()
    assert alive["0.weight"].all()


def test_a_unit_without_input_takes_its_weights_and_its_bias_along():
    model = network()
    with torch.no_grad():
        model[5].weight[1] = 0
    alive = paths.alive(model, IMAGES)
    assert alive["7.weight"].tolist() == [[True, False], [True, False]]
    assert alive["5.bias"].tolist() == [True, False]


def test_a_channel_without_input_takes_what_lies_behind_it_along():
    model = network()
    with torch.no_grad():
        model[0].weight[0] = 0
    alive = paths.alive(model, IMAGES)
    assert alive["0.bias"].tolist() == [False, True]
    assert not alive["5.weight"][:, :4].any()
    assert alive["5.weight"][:, 4:].all()


def test_masks_count_as_zeros_and_names_are_those_without_constraints():
    model = network()
    kept = np.ones((2, 2), bool)
    kept[:, 0] = False
    constraints.mask(model, "7.weight", kept, regrow=True)
    alive = paths.alive(model, IMAGES)
    assert set(alive) == {"0.weight", "0.bias", "1.weight", "1.bias", "5.weight", "5.bias", "7.weight", "7.bias"}
    assert not alive["5.weight"][0].any()


def test_weights_that_cancel_out_are_on_a_path_all_the_same():
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2, bias=False), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[1].weight[0], model[1].weight[1] = 1, -1
        model[2].weight[:] = 1
    assert all(mask.all() for mask in paths.alive(model, IMAGES).values())


def test_networks_whose_paths_cannot_be_told_are_refused():
    with pytest.raises(UsageError, match="networks with a LayerNorm, such as 1"):
        paths.alive(nn.Sequential(nn.Flatten(), nn.LayerNorm(36)), IMAGES)
