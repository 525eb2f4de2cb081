import pytest

from dcomp.compression.error_curves import Curve, CurvePoint, Sensitivity, harshest_plan, plan_within
from dcomp.settings.plan import Plan

DENSE = 2.0


def curve(layer, setting, errors):
    return Curve(layer, 100, setting, tuple(CurvePoint(amount, error, 0.1) for amount, error in errors.items()))


CURVES = (
    curve("a", "sparsity", {0.3: 2.0, 0.6: 2.1, 0.9: 2.5}),
    curve("b", "sparsity", {0.3: 2.2, 0.6: 2.7, 0.9: 9.0}),
    curve("a", "bits", {8: 1.9, 4: 2.3, 2: 2.4}),
)


def test_each_layer_gets_the_harshest_amount_within_the_budget():
    assert plan_within(CURVES, DENSE, 0.3) == Plan({"a": 0.6, "b": 0.3}, {"a": 4})
    assert plan_within(CURVES, DENSE, 0.0) == Plan({"a": 0.3}, {"a": 8})


def test_an_amount_beyond_one_that_costs_too_much_is_not_trusted():
    lucky = curve("a", "sparsity", {0.3: 2.0, 0.6: 3.0, 0.9: 2.0})
    assert lucky.drops(DENSE) == [0, 1, 1]
    assert lucky.choice(DENSE, 0.5) == 0.3


def test_an_allowed_drop_that_is_just_met_is_met():
    assert curve("a", "sparsity", {0.5: 2.3}).choice(2.0, 0.3) == 0.5  # 2.3 - 2.0 > 0.3 in floating point


def cost(plan):
    """Errors of single layers, added up."""
    return DENSE + sum(
        point.error - DENSE
        for one in CURVES
        for point in one.points
        if point.amount == (plan.sparsities if one.setting == "sparsity" else plan.bits).get(one.layer)
    )


@pytest.mark.parametrize("max_drop", [0.0, 0.1, 0.3, 0.5, 0.7, 1.0, 10.0])
def test_the_harshest_plan_has_the_largest_budget_within_the_drop(max_drop):
    found = harshest_plan(CURVES, DENSE, max_drop, cost)
    budgets = sorted({drop for one in CURVES for drop in one.drops(DENSE) if drop <= max_drop})
    fitting = [budget for budget in budgets if cost(plan_within(CURVES, DENSE, budget)) - DENSE <= max_drop + 1e-9]
    assert found.budget == fitting[-1]
    assert found.plan == plan_within(CURVES, DENSE, found.budget)
    assert found.error == cost(found.plan) <= DENSE + max_drop + 1e-9


def test_few_whole_plans_are_measured():
    many = [curve(str(layer), "sparsity", {i / 100: DENSE + i * layer / 999 for i in range(1, 99)}) for layer in (1, 2)]
    tried = []
    harshest_plan(many, DENSE, 1.0, lambda plan: tried.append(plan) or DENSE + 9)
    assert 1 < len(tried) <= 8


def test_where_no_plan_stays_within_the_drop_it_is_empty():
    found = harshest_plan(CURVES, DENSE, 0.5, lambda plan: 90.0)
    assert (found.plan, found.budget, found.error) == (Plan({}, {}), 0.0, DENSE)


def test_the_points_in_the_plan_are_told_by_layer():
    result = Sensitivity(DENSE, 0.1, 1000, CURVES, harshest_plan(CURVES, DENSE, 10, cost))
    assert result.planned_points("sparsity") == {"a": CURVES[0].points[-1], "b": CURVES[1].points[-1]}
    assert Sensitivity(DENSE, 0.1, 1000, CURVES, None).planned_points("bits") == {}
