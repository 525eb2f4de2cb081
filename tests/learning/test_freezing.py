import numpy as np
import pytest
import torch
from torch import nn

from dcomp import stages
from dcomp.errors import UsageError
from dcomp.learning.freezing import freeze
from dcomp.settings import FinetuneSettings, PruneSettings, QuantizeSettings, TrainSettings

TRAINING = {"data": "digits", "epochs": 1, "batch_size": 256, "lr": 0.05}


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def changed(before: nn.Module, after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, tensor in before.state_dict().items() if not torch.equal(tensor, after[name])}


def trained(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state of a model before a step of training, which the model has done."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD([parameter for parameter in model.parameters() if parameter.requires_grad], 0.1)
    model.train()
    (model(torch.rand(8, 1, 4, 4)) ** 2).sum().backward()
    optimizer.step()
    return before


@pytest.mark.parametrize(
    ("patterns", "frozen"),
    [
        (["^0"], {"0.weight", "0.bias"}),
        (["^1"], {"1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"}),
        (["^1.weight", "^3.bias"], {"1.weight", "3.bias"}),
        (["running"], {"1.running_mean", "1.running_var", "1.num_batches_tracked"}),
        ([], set()),
    ],
)
def test_what_matches_does_not_change_running_statistics_included(patterns, frozen):
    model = network()
    freeze(model, patterns)
    before = trained(model)
    assert set(before) - changed(model, before) == frozen


def test_a_frozen_normalization_uses_its_statistics_in_training():
    model = network()
    freeze(model, ["^1"])
    images = torch.rand(8, 1, 4, 4)
    model.train()
    in_training = model[1](model[0](images))
    assert torch.equal(in_training, model.eval()[1](model[0](images)))


def test_a_tied_weight_is_frozen_by_any_of_its_names():
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    model["b"].weight = model["a"].weight
    freeze(model, ["^b.weight"])
    assert not model["a"].weight.requires_grad
    assert model["a"].bias.requires_grad


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("conv", "freeze: no tensor matches 'conv'; there are 0.weight"), (".", "freeze matches all parameters")],
)
def test_patterns_that_freeze_nothing_or_all_are_refused(pattern, message):
    with pytest.raises(UsageError, match=message):
        freeze(network(), [pattern])


@pytest.fixture(scope="module")
def lenet5():
    return stages.train(TrainSettings(architecture="lenet5", **TRAINING))


def equal(a, b, prefix: str) -> bool:
    names = [name for name in a.tensors if name.startswith(prefix)]
    return bool(names) and all(np.array_equal(a.tensors[name], b.tensors[name]) for name in names)


def test_fc_layers_are_pruned_and_train_while_conv_layers_stay(lenet5):
    fc_pruned = stages.prune(lenet5, PruneSettings(sparsity=0.9, only="^fc", freeze="^conv", until=0, **TRAINING))
    assert equal(lenet5, fc_pruned, "conv")
    assert (fc_pruned.tensors["fc1.weight"] == 0).mean() > 0.85
    assert not np.array_equal(lenet5.tensors["fc2.bias"], fc_pruned.tensors["fc2.bias"])
    both = stages.prune(fc_pruned, PruneSettings(sparsity=0.5, only="^conv", freeze="^fc", until=0, **TRAINING))
    assert equal(fc_pruned, both, "fc")
    assert (both.tensors["conv2.weight"] == 0).mean() > 0.3


def test_without_freeze_pruning_one_layer_moves_the_others(lenet5):
    pruned = stages.prune(lenet5, PruneSettings(sparsity=0.9, only="^fc", until=0, **TRAINING))
    assert not equal(lenet5, pruned, "conv1.weight")


def test_frozen_weights_may_be_pruned_by_gradients_and_keep_their_values(lenet5):
    settings = PruneSettings(sparsity=0.5, criterion="fisher", freeze="^fc1.weight", until=0, **TRAINING)
    pruned = stages.prune(lenet5, settings)
    weights = pruned.tensors["fc1.weight"]
    assert 0 < np.count_nonzero(weights) < weights.size
    assert np.array_equal(weights[weights != 0], lenet5.tensors["fc1.weight"][weights != 0])


def test_frozen_shared_values_stay_as_they_are_while_others_train(lenet5):
    shared = stages.quantize(lenet5, QuantizeSettings(bits="3"))
    trained = stages.quantize(shared, QuantizeSettings(bits="3", freeze="^fc", val_split=0, **TRAINING))
    assert equal(shared, trained, "fc")
    assert not equal(shared, trained, "conv")
    again = stages.finetune(shared, FinetuneSettings(freeze="^conv", val_split=0, **TRAINING))
    assert equal(shared, again, "conv")
    assert not equal(shared, again, "fc")
