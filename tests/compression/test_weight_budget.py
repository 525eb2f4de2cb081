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


def magnitudes(name, array):
    return absolute(array)


def test_each_move_of_a_capped_amount_takes_its_part_until_the_cap(weights):
    budget = WeightBudget(weights, PruneSettings(amount=0.5, sparsity=0.8, at=[0, 1, 2, 3], **RETRAINING), {})
    left = [sum(kept(budget.masks(move, weights, magnitudes)).values()) for move in (0, 1, 2, 3)]
    assert left == [200, 100, 80, 80]
    assert budget.moves == [0, 1, 2]
    assert [group.sparsity for group in budget.groups] == [0.8]
    assert list(budget.notes(budget.groups[0])) == []


def test_each_layer_ends_at_the_cap_and_the_slowest_says_when_moves_end(weights):
    settings = PruneSettings(amount=0.5, sparsity=0.8, layer="a=0.2", scope="layer", at=[0, 1, 2, 3], **RETRAINING)
    budget = WeightBudget(weights, settings, {"a": 0.2})
    left = [kept(budget.masks(move, weights, magnitudes)) for move in budget.moves]
    assert left == [{"a": 160, "b": 100}, {"a": 128, "b": 50}, {"a": 102, "b": 40}, {"a": 82, "b": 40}]
    notes = [list(budget.notes(group)) for group in budget.groups]
    assert notes == [["4 moves of the amount end at sparsity 0.5904, below 0.8: give more moves"], []]


def test_a_capped_amount_prunes_nothing_where_more_is_zero_already(weights):
    for array in weights.values():
        array[:18] = 0
    budget = WeightBudget(weights, PruneSettings(amount=0.5, sparsity=0.8, at=[0, 1], **RETRAINING), {})
    masks = budget.masks(0, weights, magnitudes)
    assert all(masks[name][weights[name] != 0].all() for name in weights)
    assert budget.moves == [0]
    assert "more weights than that were zero already" in next(budget.notes(budget.groups[0]))


def test_an_amount_without_a_cap_moves_to_the_end(weights):
    assert WeightBudget(weights, PruneSettings(amount=0.5, at=[0, 1, 2, 3], **RETRAINING), {}).moves == [0, 1, 2, 3]
