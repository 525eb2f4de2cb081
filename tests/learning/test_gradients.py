import numpy as np
import pytest
import torch
from torch import nn

from dcomp.compression.pruning import Pruning
from dcomp.learning import gradients
from dcomp.learning.datasets import MemorySplit, Preprocessing
from dcomp.learning.examples.images import ImageExamples
from dcomp.learning.losses import Loss
from dcomp.settings import PruneSettings

SETTINGS = PruneSettings(sparsity=0.5, data="digits", epochs=1, batch_size=16)


@pytest.fixture
def train() -> ImageExamples:
    images = torch.randint(0, 256, (64, 1, 2, 2), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return ImageExamples(MemorySplit(images, images[:, 0, 0].argmax(1), Preprocessing((0.5,), (0.3,))))


def test_squared_gradients_are_means_over_batches(train):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    parameters = {"w": model[1].weight, "b": model[1].bias}
    squares = gradients.squared_gradients(model, parameters, train, SETTINGS, Loss(train.objective, SETTINGS), seed=3)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(3)).split(16)
    found = []
    for stored, labels in train.split.batches(order):
        loss = nn.functional.cross_entropy(model(train.split.preprocessing.test(stored)), labels)
        found.append(torch.autograd.grad(loss, model[1].weight)[0])
    assert torch.allclose(squares["w"], torch.stack(found).square().mean(0), atol=1e-7)
    assert squares["b"].shape == (2,)


@pytest.mark.parametrize("budget", [{"sparsity": 0.5}, {"target_ratio": 12, "code_bits": 5}])
def test_fisher_keeps_the_largest_saliencies(rng, budget):
    weights = {"fc.weight": rng.normal(size=(20, 30)).astype(np.float32)}
    squares = {"fc.weight": rng.exponential(size=(20, 30)).astype(np.float32) ** 3}
    settings = PruneSettings(criterion="fisher", schedule="oneshot", epochs=1, data="digits", **budget)
    kept = Pruning(weights, settings).masks_at(0, weights, squares)["fc.weight"]
    worth = weights["fc.weight"] ** 2 * squares["fc.weight"]
    assert 0 < kept.sum() < kept.size
    # in a budget of bytes a place in a full row and column is a little cheaper
    assert worth[kept].min() > (1 if "sparsity" in budget else 0.5) * worth[~kept].max()
