"""The loss of a batch: that of the task, and the divergence from a teacher's answers to the same inputs."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dcomp.learning.calls import Call, recorded
from dcomp.learning.devices import in_precision
from dcomp.learning.examples import Batch
from dcomp.learning.objectives import Objective
from dcomp.settings import LearningSettings


class BatchLoss(NamedTuple):
    """The mean loss of a batch, and the part of right answers; None for other tasks than classification."""

    value: Tensor
    accuracy: Tensor | None


class Loss:
    """The mean loss of a batch; in nats for classification.

    With a teacher it is (1 - alpha) * cross-entropy + alpha * T^2 * KL(teacher || network), both softened by the
    temperature T; T^2 keeps the size of the second gradient (Hinton et al. 2015, "Distilling the Knowledge in a Neural
    Network", section 2).
    """

    def __init__(self, objective: Objective, settings: LearningSettings, teacher: nn.Module | None = None) -> None:
        """Freeze the teacher, if there is one."""
        self._objective = objective
        self._settings = settings
        self._teacher = teacher.eval().requires_grad_(False) if teacher is not None else None

    def __call__(self, model: nn.Module, batch: Batch) -> BatchLoss:
        """Return the loss of a batch, which is on the network's device."""
        device = next(model.parameters()).device
        with in_precision(device, self._settings.precision), recorded(model) as calls:
            loss = self._objective.loss(model, batch.content, self._settings.label_smoothing)
        if not calls:  # the task's loss calls parts of the network, and not the network
            return BatchLoss(loss, None)
        if self._teacher is not None:
            alpha, scale = self._settings.alpha, self._settings.temperature**2
            loss = (1 - alpha) * loss + alpha * scale * self._divergence(calls[0], device)
        with torch.no_grad():
            return BatchLoss(loss, self._objective.accuracy(calls[0].output, batch.content))

    def _divergence(self, call: Call, device: torch.device) -> Tensor:
        """Return KL between the teacher's answers to a call's inputs and the call's output, both softened."""
        assert self._teacher is not None  # by `__call__`
        temperature = self._settings.temperature
        with in_precision(device, self._settings.precision):
            answers = self._teacher(*call.arguments, **call.keywords)
        return F.kl_div(
            F.log_softmax(call.output / temperature, 1),
            F.log_softmax(answers.float() / temperature, 1),
            reduction="batchmean",
            log_target=True,
        )
