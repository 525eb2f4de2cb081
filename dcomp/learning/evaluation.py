"""The metrics of a network on the examples of a task."""

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import nn

from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.errors import DataError
from dcomp.learning import distributed
from dcomp.learning.calls import recorded
from dcomp.learning.devices import in_precision
from dcomp.learning.examples import Examples
from dcomp.learning.networks import network_for
from dcomp.learning.trial import Trial
from dcomp.progress.measurement import Measurement
from dcomp.progress.observer import Observer
from dcomp.settings import EvalSettings, Precision


@torch.no_grad()
def evaluate(model: nn.Module, examples: Examples, precision: Precision = "fp32") -> Measurement:
    """Measure a model on examples that are on its device; several processes divide them.

    Raises:
        DataError: a task's metrics have other names for one batch than for another.
    """
    model.eval()
    distributed.agree_on_statistics(model)
    objective, device = examples.objective, next(model.parameters(), torch.empty(0)).device
    sums: dict[str, float] = defaultdict(float)
    count = 0
    for batch in examples.batches():
        with in_precision(device, precision), recorded(model):  # which makes outputs float32
            sums_of_batch = objective.sums(model, batch.content, batch.size)
        _check_names(sums_of_batch, sums)
        for name, total in sums_of_batch.items():
            sums[name] += total if batch.size else 0
        count += batch.size
    *totals, count_of_all = distributed.totals([*sums.values(), count], device)
    means = objective.means(dict(zip(sums, totals, strict=True)), int(count_of_all))
    return Measurement(means, objective.judge, int(count_of_all))


def _check_names(metrics: Mapping[str, float], earlier: Mapping[str, float]) -> None:
    """Raise DataError unless the metrics of a batch have the names of those before, if there are any."""
    if earlier and earlier.keys() != metrics.keys():
        raise DataError(
            f"the metrics of the task are {', '.join(earlier)} for one batch and {', '.join(metrics)} for another: "
            "return the same for all"
        )


def evaluate_checkpoint(
    checkpoint: Checkpoint, architecture: str, settings: EvalSettings, observer: Observer
) -> Measurement:
    """Measure a checkpoint on the test examples of a data set.

    Raises:
        ArchitectureError: no such network, or the checkpoint does not fit it.
        DataError: the data set cannot be loaded.
        CheckpointError: the network's answers are not finite.
        UsageError: the settings bound a metric that the task does not have.
    """
    model, test = network_for(checkpoint, architecture, settings, observer, lambda data: data.test)
    settings.check_bounded(Trial(model, test).metric_names())
    result = evaluate(model, test, settings.precision)
    result.check_finite()
    return result
