import pytest
import torch
from torch import nn

from dcomp.errors import ArchitectureError
from dcomp.learning.datasets import MemorySplit, Preprocessing
from dcomp.learning.networks import check_fit, lay_out, one_image


@pytest.fixture
def split():
    images = torch.arange(48, dtype=torch.uint8).reshape(3, 1, 4, 4)
    return MemorySplit(images, torch.tensor([0, 1, 2]), Preprocessing((0.0,), (1.0,)))


def network(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, classes))


def test_a_network_may_have_more_classes_than_the_data(split):
    assert check_fit(network(3), split, "net") == 3
    assert check_fit(network(5), split, "net") == 5


def test_a_network_that_does_not_fit_the_data_is_refused(split):
    with pytest.raises(ArchitectureError, match=r"net gives \(1, 2\) for one image, not \(1, 3\)"):
        check_fit(network(2), split, "net")
    with pytest.raises(ArchitectureError, match=r"net does not take images of shape \(1, 4, 4\)"):
        check_fit(nn.Linear(16, 3), split, "net")


def test_one_image_is_the_first_of_the_split(split):
    assert torch.equal(one_image(split), split.images[:1] / 255)


def test_channels_are_last_where_the_network_takes_that(split):
    images = torch.zeros(1, 2, 4, 4)
    taken = nn.Sequential(nn.Conv2d(2, 3, 2))
    lay_out(taken, images)
    assert taken[0].weight.is_contiguous(memory_format=torch.channels_last)

    class Views(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 2)

        def forward(self, images):
            return self.conv(images).view(len(images), -1)

    refused = Views()
    lay_out(refused, images)
    assert refused.conv.weight.is_contiguous()
