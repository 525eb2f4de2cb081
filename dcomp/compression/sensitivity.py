"""What pruning or sharing costs, one layer at a time and without retraining."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.compression.error_curves import Curve, CurvePoint, Sensitivity, Setting, harshest_plan
from dcomp.compression.sharing import from_codebook
from dcomp.progress.observer import Observer
from dcomp.pruning import ranking
from dcomp.pruning.criteria.magnitude import absolute
from dcomp.quantization import kmeans
from dcomp.settings import SensitivitySettings
from dcomp.settings.plan import Plan

if TYPE_CHECKING:
    from dcomp.learning.probe import Probe

Weights = Mapping[str, np.ndarray]


def measure(
    checkpoint: Checkpoint, weights: Weights, architecture: str, settings: SensitivitySettings, observer: Observer
) -> Sensitivity:
    """Return curves of each of the weights on validation examples, and a plan if a drop is allowed.

    Raises:
        ArchitectureError: no such network, or checkpoint or data do not fit it.
        DataError: the data set cannot be loaded.
        UsageError: there are no validation examples.
        CheckpointError: the network's answers are no numbers.
    """
    from dcomp.learning.probe import Probe

    probe = Probe.of_checkpoint(checkpoint, architecture, settings, observer)
    dense = probe.evaluate({})
    dense.check_finite()
    judge = dense.judge
    curves = measure_curves(probe, weights, settings, observer)
    planned = None
    if settings.max_drop is not None:

        def error_of(plan: Plan) -> float:
            error = probe.evaluate(apply_plan(plan, weights)).judged
            amounts = f"{len(plan.sparsities)} layers pruned, {len(plan.bits)} shared"
            observer.note(f"a plan tried: {amounts}, together {judge.title} {judge.text(error)}")
            return error

        planned = harshest_plan(curves, dense.judged, settings.max_drop, error_of, judge)
    return Sensitivity(dense.judged, dense.loss, dense.count or 0, curves, planned, judge)


def measure_curves(
    probe: "Probe", weights: Weights, settings: SensitivitySettings, observer: Observer
) -> tuple[Curve, ...]:
    """Return two curves for each layer: sparsities from the smallest on, bits from the largest on."""
    amounts: dict[Setting, tuple[float, ...]] = {"sparsity": settings.prune, "bits": settings.bits[::-1]}
    curves = []
    done = 0
    observer.activity("layer by layer")
    observer.started(len(weights) * sum(map(len, amounts.values())))
    try:
        for name, array in weights.items():
            for setting, tried in amounts.items():
                points = []
                for amount in tried:
                    change = (
                        prune_smallest(array, amount) if setting == "sparsity" else share_values(array, int(amount))
                    )
                    result = probe.evaluate({name: change})
                    points.append(CurvePoint(amount, result.judged, result.loss))
                    done += 1
                    observer.finished_steps(done, result.loss, result.accuracy)
                if points:
                    curves.append(Curve(name, array.size, setting, tuple(points)))
    finally:
        observer.finished()
    return tuple(curves)


def apply_plan(plan: Plan, weights: Weights) -> dict[str, np.ndarray]:
    """Return the tensors that a plan changes, pruned first and then shared, as `prune` and `quantize` do."""
    changed = {name: prune_smallest(weights[name], sparsity) for name, sparsity in plan.sparsities.items()}
    return changed | {name: share_values(changed.get(name, weights[name]), bits) for name, bits in plan.bits.items()}


def prune_smallest(weights: np.ndarray, sparsity: float) -> np.ndarray:
    """Return weights with the smallest set to zero."""
    [mask] = ranking.keep_largest([absolute(weights)], ranking.kept_count(weights.size, sparsity))
    return ranking.pruned(weights, mask)


def share_values(weights: np.ndarray, bits: int) -> np.ndarray:
    """Return weights whose kept ones have at most 2^bits values."""
    kept = weights != 0
    return from_codebook(kept, *kmeans.cluster(weights[kept], bits))
