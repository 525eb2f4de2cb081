import pytest
import torch
from torch import nn

from dcomp.errors import UsageError
from dcomp.learning import architectures, paths

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


def test_a_unit_without_output_is_dead():
    model = network()
    with torch.no_grad():
        model[7].weight[:, 0] = 0
    alive = paths.alive(model, IMAGES)
    assert not alive["5.weight"][0].any()
    assert alive["5.weight"][1].all()
    assert alive["5.bias"].tolist() == [False, True]
    assert alive["7.bias"].all()
    assert alive["0.weight"].all()


def test_a_unit_without_input_is_dead():
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


def test_a_unit_without_output_takes_its_weights_along():
    model = network()
    with torch.no_grad():
        model[7].weight[:, 0] = 0
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


@pytest.mark.parametrize(
    "activation", [nn.ReLU6(), nn.Hardtanh(), nn.Tanh(), nn.Sigmoid(), nn.Hardswish(), nn.GELU(), nn.Softplus()]
)
def test_activations_that_saturate_leave_everything_alive(activation):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 50), activation, nn.Linear(50, 50), activation, nn.Linear(50, 4))
    assert all(mask.all() for mask in paths.alive(model, IMAGES).values())
    with torch.no_grad():
        model[5].weight[:, 7] = 0
    assert paths.alive(model, IMAGES)["3.bias"].tolist() == [unit != 7 for unit in range(50)]


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.LogSoftmax(1)])
def test_a_softmax_at_the_end_leaves_everything_alive(last):
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.ReLU(), nn.Linear(5, 4), last)
    assert all(mask.all() for mask in paths.alive(model, IMAGES).values())


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AdaptiveMaxPool2d(1), nn.MaxPool2d(3, 2, padding=1)])
def test_what_a_pooling_passes_over_is_alive_all_the_same(pool):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.MaxPool2d(3), nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    model.extend([pool, nn.Flatten(), nn.LazyLinear(2)])
    model(IMAGES)
    assert all(mask.all() for mask in paths.alive(model, IMAGES).values())


@pytest.mark.parametrize("name", ["vgg16-cifar", "torchvision:mobilenet_v2", "torchvision:mobilenet_v3_small"])
def test_in_dense_networks_of_the_zoo_everything_is_alive(name):
    model = architectures.build(name, {"classes": 10})
    assert all(mask.all() for mask in paths.alive(model, torch.zeros(1, 3, 32, 32)).values())


def test_unused_parameters_count_as_alive():
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(2, 2))
    model.unused = nn.Linear(3, 3)
    model.forward = lambda images: model[2](model[1](model[0](images)))
    alive = paths.alive(model, torch.zeros(1, 1, 1, 1))
    assert alive["unused.weight"].all()
    assert alive["0.weight"].all()


def test_parameters_of_no_dimension_are_judged_as_well():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.scale = nn.Linear(36, 2), nn.Parameter(torch.tensor(3.0))

        def forward(self, images):
            return self.scale * self.layer(images.flatten(1))

    assert all(mask.all() for mask in paths.alive(Scaled(), IMAGES).values())
