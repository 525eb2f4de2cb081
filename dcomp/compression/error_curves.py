"""The growth of the error as one layer at a time is compressed, and the plan that follows from it.

A *curve* holds the errors of a network whose one layer is pruned to several sparsities, or shares its weights at
several numbers of bits, without retraining (Han et al. 2015, "Learning both Weights and Connections", figure 6).
An *error* is the value of the metric that judges networks, in its unit: in classification the top-1 error in percent.
A *drop* is by how much that is worse than the dense network's. A *budget* is a drop that each layer alone may cost.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from dcomp.progress.measurement import LOSS, TOP1_ERROR, Judge
from dcomp.settings.plan import Plan

Setting = Literal["sparsity", "bits"]


@dataclass(frozen=True)
class CurvePoint:
    """The cost of one amount: the network's error, and its loss."""

    amount: float
    error: float
    loss: float

    def as_dict(self, judge: Judge) -> dict[str, float]:
        """Return the point as plain data, the error under the name of the metric."""
        return {"amount": self.amount, judge.metric: self.error, LOSS: self.loss}


@dataclass(frozen=True)
class Curve:
    """The points of a layer and the number of its weights, from the gentlest amount on: sparsities rise, bits fall."""

    layer: str
    weights: int
    setting: Setting
    points: tuple[CurvePoint, ...]

    def drops(self, dense_error: float, judge: Judge = TOP1_ERROR) -> list[float]:
        """Return the largest drop up to each point, since by chance a harsher amount may be better."""
        return list(accumulate((judge.worsening(point.error, dense_error) for point in self.points), max))

    def choice(self, dense_error: float, budget: float, judge: Judge = TOP1_ERROR) -> float | None:
        """Return the harshest amount within the budget, with all gentler ones; None if there is none."""
        within = sum(cost <= budget for cost in self.drops(dense_error, judge))
        return self.points[within - 1].amount if within else None


@dataclass(frozen=True)
class PlanResult:
    """A plan, the drop that was allowed, the budget that follows, and the error with all of the plan applied."""

    plan: Plan
    max_drop: float
    budget: float
    error: float


@dataclass(frozen=True)
class Sensitivity:
    """A network's curves, its dense error and loss, the number of examples behind each point, and a plan if any."""

    error: float
    loss: float
    count: int
    curves: tuple[Curve, ...]
    planned: PlanResult | None
    judge: Judge = TOP1_ERROR

    def curves_of(self, setting: Setting) -> list[Curve]:
        """Return the curves of one setting, in the order of the layers."""
        return [curve for curve in self.curves if curve.setting == setting]

    def planned_points(self, setting: Setting) -> dict[str, CurvePoint]:
        """Return the points of one setting that are in the plan, by layer."""
        if self.planned is None:
            return {}
        plan = self.planned.plan
        amounts = plan.sparsities if setting == "sparsity" else plan.bits
        return {
            curve.layer: point
            for curve in self.curves_of(setting)
            for point in curve.points
            if point.amount == amounts.get(curve.layer)
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain data; errors under the name of the metric, a plan as its sections."""
        name = self.judge.metric
        curves = [
            {**vars(curve), "points": [point.as_dict(self.judge) for point in curve.points]} for curve in self.curves
        ]
        planned = None
        if self.planned is not None:
            planned = {**vars(self.planned), "plan": self.planned.plan.sections(), name: self.planned.error}
            del planned["error"]
        measured = {name: self.error, LOSS: self.loss, "count": self.count}
        return {**measured, "curves": curves, "planned": planned, **self.judge.as_dict()}


def plan_within(curves: Sequence[Curve], dense_error: float, budget: float, judge: Judge = TOP1_ERROR) -> Plan:
    """Return the harshest plan whose every amount alone stays within the budget."""
    chosen = [(curve, curve.choice(dense_error, budget, judge)) for curve in curves]
    return Plan(
        {curve.layer: amount for curve, amount in chosen if curve.setting == "sparsity" and amount is not None},
        {curve.layer: int(amount) for curve, amount in chosen if curve.setting == "bits" and amount is not None},
    )


def harshest_plan(
    curves: Sequence[Curve],
    dense_error: float,
    max_drop: float,
    error_of: Callable[[Plan], float],
    judge: Judge = TOP1_ERROR,
) -> PlanResult:
    """Return the plan of the largest budget with which all layers together stay within `max_drop`.

    Errors add up over layers, so the budget of each is smaller than the drop allowed to all. A plan changes only
    where the budget passes a measured drop: the search bisects those.

    Args:
        curves: of every layer.
        dense_error: of the network as it is.
        max_drop: allowed to each layer alone, and to all of them together.
        error_of: measures the network with all of a plan applied.
        judge: the metric of the errors.

    Returns:
        the plan, measured; an empty plan with budget 0 if none stays within `max_drop`.
    """
    budgets = sorted({cost for curve in curves for cost in curve.drops(dense_error, judge) if cost <= max_drop})
    best = PlanResult(Plan({}, {}), max_drop, 0.0, dense_error)
    low, high = 0, len(budgets)
    while low < high:
        middle = (low + high) // 2
        plan = plan_within(curves, dense_error, budgets[middle], judge)
        error = error_of(plan)
        if judge.worsening(error, dense_error) <= max_drop:
            best, low = PlanResult(plan, max_drop, budgets[middle], error), middle + 1
        else:
            high = middle
    return best
