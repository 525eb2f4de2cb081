"""The loss of a batch: that of the task, and the distance from a teacher's answers to the same inputs."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dcomp.learning.calls import recorded
from dcomp.learning.devices import in_precision
from dcomp.learning.distillation import Distillation, Term
from dcomp.learning.examples import Batch
from dcomp.learning.objectives import Objective
from dcomp.settings import LearningSettings


class BatchLoss(NamedTuple):
    """The mean loss of a batch, and the part of right answers; None for other tasks than classification."""

    value: Tensor
    accuracy: Tensor | None


class Loss:
    """The mean loss of a batch; in nats for classification.

    With a teacher it is (1 - alpha) * that of the task + alpha * the distance from the teacher. With alpha 1 the task's
    does not count, whatever it is.
    """

    def __init__(
        self, objective: Objective, settings: LearningSettings, distillation: Distillation | None = None
    ) -> None:
        """Take the task, and the distance from the teacher, if there is one."""
        self._objective = objective
        self._settings = settings
        self._distillation = distillation

    def __call__(self, model: nn.Module, batch: Batch) -> BatchLoss:
        """Return the loss of a batch, which is on the network's device."""
        device, distillation = next(model.parameters()).device, self._distillation
        with (
            in_precision(device, self._settings.precision),
            recorded(model) as calls,
            distillation.watched() if distillation is not None else nullcontext([]) as hidden,
        ):
            loss = self._objective.loss(model, batch.content, self._settings.label_smoothing)
        if not calls:  # the task's loss calls parts of the network, and not the network
            return BatchLoss(loss, None)
        if distillation is not None:
            loss = self._with_teacher(loss, distillation.terms(calls[0], hidden))
        with torch.no_grad():
            return BatchLoss(loss, self._objective.accuracy(calls[0].output, batch.content))

    def _with_teacher(self, loss: Tensor, terms: Sequence[Term]) -> Tensor:
        """Return the loss of the task and the distance from the teacher, weighted."""
        alpha = self._settings.alpha
        parts = [alpha * factor * value for factor, value in terms]
        return sum(parts[1:], parts[0]) if alpha == 1 else sum(parts, (1 - alpha) * loss)
