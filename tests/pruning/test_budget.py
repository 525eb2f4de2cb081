import numpy as np
import pytest

from dcomp.errors import UsageError
from dcomp.pruning import budget, threshold
from dcomp.pruning.criteria.magnitude import absolute, row_norm


@pytest.fixture
def weights(rng):
    return {"a": rng.normal(size=(10, 10)), "b": 5 * rng.normal(size=(10, 10)), "c": rng.normal(size=(10, 10))}


def score(name, array):
    return absolute(array)


def test_global_scope_reaches_the_sparsity_over_all_layers_together(weights):
    masks = budget.masks(weights, budget.by_sparsity(weights, 0.7, together=True, by_name={}), score)
    assert sum(mask.sum() for mask in masks.values()) == 90
    assert masks["b"].sum() > masks["a"].sum()


def test_layer_scope_reaches_it_in_each_layer(weights):
    masks = budget.masks(weights, budget.by_sparsity(weights, 0.7, together=False, by_name={}), score)
    assert [mask.sum() for mask in masks.values()] == [30, 30, 30]


def test_a_rule_takes_its_layer_out_of_the_common_budget(weights):
    groups = budget.by_sparsity(weights, 0.7, together=True, by_name={"a": 0.2})
    masks = budget.masks(weights, groups, score)
    assert masks["a"].sum() == 80
    assert masks["b"].sum() + masks["c"].sum() == 60


def test_without_a_sparsity_only_layers_with_rules_are_pruned(weights):
    groups = budget.by_sparsity(weights, None, together=True, by_name={"b": 0.5})
    assert list(budget.masks(weights, groups, score)) == ["b"]


def test_deviation_groups_keep_weights_above_the_threshold(weights):
    groups = budget.by_deviation(weights, 1.0, {"c": 2.0})
    masks = budget.masks(weights, groups, score)
    for name, factor in {"a": 1.0, "b": 1.0, "c": 2.0}.items():
        assert np.array_equal(masks[name], threshold.above(weights[name], factor * threshold.deviation(weights[name])))


@pytest.mark.parametrize(("together", "zeros"), [(True, [100]), (False, [100, 100, 100])])
def test_a_count_is_the_number_of_zeros_of_each_group(weights, together, zeros):
    groups = budget.by_count(weights, 100, together=together, by_name={})
    masks = budget.masks(weights, groups, score)
    assert [sum((~masks[name]).sum() for name in group.names) for group in groups] == zeros


def test_a_count_beyond_the_weights_there_are_names_the_layer(weights):
    with pytest.raises(UsageError, match="b: 101 weights cannot become zero where there are 100"):
        budget.by_count(weights, 5, together=True, by_name={"b": 101})
    with pytest.raises(UsageError, match="11 rows cannot become zero where there are 10"):
        budget.by_count(weights, 11, together=False, by_name={}, rows=True)


def test_an_amount_is_a_fraction_of_the_remaining_weights(weights):
    weights["a"][:5] = 0
    groups = budget.by_amount(weights, 0.2, 3, together=False, by_name={"c": 0.5})
    found = {group.names[0]: group.sparsity for group in groups}
    assert found == pytest.approx({"a": 1 - 0.5 * 0.8**3, "b": 1 - 0.8**3, "c": 1 - 0.5**3})


def test_a_threshold_may_count_in_deviations_of_other_weights(weights):
    (group,) = budget.by_deviation({"a": weights["a"]}, 1.0, {}, {"a": 0.5})
    assert group.sparsity == pytest.approx(np.mean(np.abs(weights["a"]) < 0.5))


def test_masks_of_rows_keep_the_rows_of_the_largest_norm_whole(weights):
    groups = budget.by_sparsity(weights, 0.7, together=False, by_name={})
    masks = budget.masks(weights, groups, lambda name, array: row_norm(array))
    for name, mask in masks.items():
        largest = np.argsort(np.linalg.norm(weights[name], axis=1))[-3:]
        assert sorted(np.flatnonzero(mask.all(axis=1))) == sorted(largest)
        assert mask.sum() == 30


def test_a_count_may_be_all_that_there_is(weights):
    (group,) = budget.by_count(weights, 300, together=True, by_name={})
    assert group.sparsity == 1
    groups = budget.by_count(weights, 10, together=False, by_name={}, rows=True)
    assert [group.sparsity for group in groups] == [1, 1, 1]


def test_an_amount_of_rows_counts_rows(weights):
    weights["a"][:5] = 0
    weights["b"][:, :5] = 0
    groups = budget.by_amount(weights, 0.2, 1, together=False, by_name={}, rows=True)
    assert [group.sparsity for group in groups] == pytest.approx([1 - 0.5 * 0.8, 0.2, 0.2])
    (group,) = budget.by_amount(weights, 0.2, 1, together=True, by_name={}, rows=True)
    assert group.sparsity == pytest.approx(1 - 25 / 30 * 0.8)


def test_kept_weights_and_rows_are_counted():
    kernels = np.zeros((4, 3, 2, 2))
    kernels[1, 2, 0, 1] = kernels[1, 0, 0, 0] = kernels[3, 1, 1, 1] = 5
    assert budget.count_kept(kernels) == (3, 48)
    assert budget.count_kept(kernels, rows=True) == (2, 4)


def test_the_sparsity_of_tensors_is_their_part_of_zeros_together(weights):
    weights["a"][:5] = 0
    assert budget.sparsity_of(weights, ["a"]) == 0.5
    assert budget.sparsity_of(weights) == pytest.approx(50 / 300)
    assert budget.sparsity_of({}) == 0
    assert budget.sparsity_of(weights, []) == 0


def test_masks_are_arrays_of_their_own_that_can_be_changed(weights):
    groups = budget.by_sparsity(weights, 0.7, together=False, by_name={})
    masks = budget.masks(weights, groups, lambda name, array: row_norm(array))
    masks["a"][0, 0] ^= True
    assert np.count_nonzero(masks["a"][0] != masks["a"][0, 1]) == 1
