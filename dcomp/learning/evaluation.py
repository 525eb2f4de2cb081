"""How often a network is wrong."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import nn
from torch.nn import functional as F

from dcomp.learning import distributed
from dcomp.learning.datasets import Split
from dcomp.learning.devices import in_precision
from dcomp.settings import Precision

DECIMALS = 6
"""Of errors and losses; what lies beyond is rounding."""

BATCH = 1000
BATCH_VALUES = 1 << 24
"""A batch of large images has no more values, of all channels, than so many."""


@dataclass(frozen=True)
class Evaluation:
    """Errors in percent, mean cross-entropy in nats, over `count` examples."""

    top1_error: float
    top5_error: float
    loss: float
    count: int

    def rounded(self) -> Self:
        """Return it without the digits that differ between machines by rounding."""
        return replace(self, top1_error=round(self.top1_error, DECIMALS), loss=round(self.loss, DECIMALS))


@torch.no_grad()
def evaluate(model: nn.Module, split: Split, precision: Precision = "fp32") -> Evaluation:
    """Run the model over a split, which is on its device, in evaluation mode; several processes divide the examples."""
    model.eval()
    distributed.agree_on_statistics(model)
    top1 = top5 = loss = 0.0
    own = distributed.span_of(len(split))
    batch = max(1, min(BATCH, BATCH_VALUES // (split.channels * split.size**2)))
    for stored, labels in split.batches(torch.arange(own.start, own.stop).split(batch)):
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
