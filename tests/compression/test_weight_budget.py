import numpy as np
import pytest

from dcomp.compression.weight_budget import WeightBudget
from dcomp.errors import UsageError
from dcomp.pruning.criteria.magnitude import absolute
from dcomp.settings import PruneSettings

RETRAINING = {"epochs": 4, "data": "digits"}


@pytest.fixture
def weights(rng):
    return {name: rng.normal(size=(20, 10)).astype(np.float32) for name in ("a", "b")}


def kept(masks):
    return {name: int(mask.sum()) for name, mask in masks.items()}


def test_all_tensors_share_one_sparsity_by_default(weights):
    budget = WeightBudget(weights, PruneSettings(sparsity=0.9), {})
    assert [group.names for group in budget.groups] == [("a", "b")]
    assert sum(kept(budget.masks(0.0, weights, lambda name, array: absolute(array))).values()) == 40


def test_a_tensor_with_a_rule_has_its_amount(weights):
    budget = WeightBudget(weights, PruneSettings(sparsity=0.9, layer="a=0.5"), {"a": 0.5})
    assert kept(budget.masks(0.0, weights, lambda name, array: absolute(array))) == {"a": 100, "b": 20}


def test_the_first_move_keeps_the_zeros_that_are_there(weights):
    weights["a"][:10] = 0
    budget = WeightBudget(weights, PruneSettings(sparsity=0.8, until=2, **RETRAINING), {})
    assert sum(kept(budget.masks(0.0, weights, lambda name, array: absolute(array))).values()) == 300
    assert sum(kept(budget.masks(2.0, weights, lambda name, array: absolute(array))).values()) == 80


def test_more_zeros_than_the_sparsity_are_noted(weights):
    weights["a"][:] = 0
    budget = WeightBudget(weights, PruneSettings(sparsity=0.25), {})
    assert list(budget.notes(budget.groups[0])) == [
        "sparsity 0.25 was asked for, but more weights than that were zero already"
    ]


def test_a_tensor_without_an_amount_is_refused(weights):
    with pytest.raises(UsageError, match="no amount is given for a, b, where plan and layer name others"):
        WeightBudget(weights, PruneSettings(layer="c=0.5"), {})
