import pytest
import torch
from torch import nn

from dcomp.errors import ArchitectureError
from dcomp.learning.datasets import MemorySplit, Preprocessing
from dcomp.learning.examples.images import ImageExamples
from dcomp.learning.networks import lay_out
from dcomp.learning.trial import Trial


@pytest.fixture
def examples():
    images = torch.arange(48, dtype=torch.uint8).reshape(3, 1, 4, 4)
    return ImageExamples(MemorySplit(images, torch.tensor([0, 1, 2]), Preprocessing((0.0,), (1.0,))))


def network(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, classes))


def test_a_network_may_have_more_classes_than_the_data(examples):
    for classes in (3, 5):
        trial = Trial(network(classes), examples)
        trial.check("net")
        assert trial.call().output.shape == (1, classes)


def test_a_network_that_does_not_fit_the_data_is_refused(examples):
    with pytest.raises(ArchitectureError, match=r"net gives \(1, 2\) for one image, not \(1, 3\)"):
        Trial(network(2), examples).check("net")
    with pytest.raises(ArchitectureError, match=r"net does not take images of shape \(1, 4, 4\)"):
        Trial(nn.Linear(16, 3), examples).check("net")


def test_a_trial_runs_the_first_image_of_the_split(examples):
    assert torch.equal(Trial(network(3), examples).input_tensor(), examples.split.images[:1] / 255)


def test_channels_are_last_where_the_network_takes_that(trial_of):
    images = torch.zeros(1, 2, 4, 4)
    taken = nn.Sequential(nn.Conv2d(2, 3, 2))
    lay_out(trial_of(taken, images))
    assert taken[0].weight.is_contiguous(memory_format=torch.channels_last)

    class Views(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 2)

        def forward(self, images):
            return self.conv(images).view(len(images), -1)

    refused = Views()
    lay_out(trial_of(refused, images))
    assert refused.conv.weight.is_contiguous()
