"""Errors of a network on the examples of a data set."""

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import nn
from torch.nn import functional as F

from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.errors import CheckpointError
from dcomp.learning import distributed
from dcomp.learning.datasets import Split
from dcomp.learning.devices import in_precision
from dcomp.learning.networks import network_for
from dcomp.progress.observer import Observer
from dcomp.settings import EvalSettings, Precision

ERROR_DECIMALS = 6
"""Decimals of rounded errors and losses; further ones differ between machines."""

BATCH = 1000
BATCH_VALUES = 1 << 24
"""The values of all channels in a batch of large images are no more than this."""


@dataclass(frozen=True)
class Evaluation:
    """Errors in percent, mean cross-entropy in nats, over `count` examples."""

    top1_error: float
    top5_error: float
    loss: float
    count: int

    def check_finite(self) -> None:
        """Raise CheckpointError if the network's answers are not finite."""
        if not math.isfinite(self.loss):
            raise CheckpointError(
                f"the network's loss is {self.loss}: its weights contain or produce infinities or NaNs"
            )

    def rounded(self) -> Self:
        """Return errors and loss rounded to the decimals that are equal on all machines."""
        return replace(self, top1_error=round(self.top1_error, ERROR_DECIMALS), loss=round(self.loss, ERROR_DECIMALS))


@torch.no_grad()
def evaluate(model: nn.Module, split: Split, precision: Precision = "fp32") -> Evaluation:
    """Measure the errors of a model on a split that is on its device; several processes divide the examples."""
    model.eval()
    distributed.agree_on_statistics(model)
    top1 = top5 = loss = 0.0
    span = distributed.span_of(len(split))
    batch = max(1, min(BATCH, BATCH_VALUES // (split.channels * split.size**2)))
    for stored, labels in split.batches(torch.arange(span.start, span.stop).split(batch)):
        images = split.preprocessing.test(stored)
        with in_precision(images.device, precision):
            logits = model(images).float()
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        ranked = logits.topk(min(5, logits.shape[1])).indices
        hits = ranked == labels.unsqueeze(1)
        top1 += int(hits[:, 0].sum())
        top5 += int(hits.sum())
    device = next(model.parameters(), torch.empty(0)).device
    top1, top5, loss = distributed.totals([top1, top5, loss], device)
    count = len(split)
    return Evaluation(100 * (1 - top1 / count), 100 * (1 - top5 / count), loss / count, count)


def evaluate_checkpoint(
    checkpoint: Checkpoint, architecture: str, settings: EvalSettings, observer: Observer
) -> Evaluation:
    """Measure the errors of a checkpoint on the test examples of a data set.

    Raises:
        ArchitectureError: no such network, or the checkpoint does not fit it.
        DataError: the data set cannot be loaded.
        CheckpointError: the network's answers are not finite.
    """
    model, test = network_for(checkpoint, architecture, settings, observer, lambda data: data.test)
    result = evaluate(model, test, settings.precision)
    result.check_finite()
    return result
