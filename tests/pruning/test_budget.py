import numpy as np
import pytest

from dcomp.layers import Rule
from dcomp.pruning import budget, criteria


@pytest.fixture
def weights(rng):
    return {"a": rng.normal(size=(10, 10)), "b": 5 * rng.normal(size=(10, 10)), "c": rng.normal(size=(10, 10))}


def score(name, array):
    return criteria.magnitude(array)


def test_global_scope_reaches_the_sparsity_over_all_layers_together(weights):
    masks = budget.masks(weights, budget.by_sparsity(weights, 0.7, together=True, rules=[]), score)
    assert sum(mask.sum() for mask in masks.values()) == 90
    assert masks["b"].sum() > masks["a"].sum()


def test_layer_scope_reaches_it_in_each_layer(weights):
    masks = budget.masks(weights, budget.by_sparsity(weights, 0.7, together=False, rules=[]), score)
    assert [mask.sum() for mask in masks.values()] == [30, 30, 30]


def test_a_rule_takes_its_layer_out_of_the_common_budget(weights):
    groups = budget.by_sparsity(weights, 0.7, together=True, rules=[Rule.parse("^a$=0.2")])
    masks = budget.masks(weights, groups, score)
    assert masks["a"].sum() == 80
    assert masks["b"].sum() + masks["c"].sum() == 60


def test_without_a_sparsity_only_layers_with_rules_are_pruned(weights):
    groups = budget.by_sparsity(weights, None, together=True, rules=[Rule.parse("b=0.5")])
    assert list(budget.masks(weights, groups, score)) == ["b"]


def test_deviation_groups_keep_what_exceeds_the_threshold(weights):
    groups = budget.by_deviation(weights, 1.0, [Rule.parse("c=2.0")])
    masks = budget.masks(weights, groups, score)
    for name, factor in {"a": 1.0, "b": 1.0, "c": 2.0}.items():
        assert np.array_equal(masks[name], criteria.above(weights[name], factor * criteria.deviation(weights[name])))
