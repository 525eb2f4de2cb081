"""The course of an optimizer's learning rate."""

import math
from typing import Any

import torch

from dcomp.settings import LearningSettings

DROP = 0.1  # of the learning rate, by `step` and `plateau`
RISE = 0.3  # part of the run in which `one-cycle` rises, unless a warm-up says how long
LOWEST, LAST = 1 / 25, 1 / 250_000  # where `one-cycle` begins and ends (Smith 2018, as torch has it)


def lr_factor(settings: LearningSettings, epochs: int, progress: float) -> float:
    """Return the factor of the learning rate after a warm-up, at a part of the epochs from 0 to 1."""
    match settings.lr_schedule:
        case "constant" | "plateau":
            return 1.0
        case "step":
            return float(DROP ** ((progress >= 0.5) + (progress >= 0.75)))
        case "cosine":
            return _cosine(1.0, 0.0, progress)
        case "one-cycle":
            rise = settings.warmup / epochs or RISE
            if progress < rise:
                return _cosine(LOWEST, 1.0, progress / rise)
            return _cosine(1.0, LAST, (progress - rise) / (1 - rise))


def _cosine(begin: float, end: float, progress: float) -> float:
    return end + (begin - end) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


class LearningRate:
    """The course of an optimizer's learning rate: by the step, and with `plateau` by the validation loss.

    Attributes:
        last: the rate of the latest step; before the first step, the rate of that step.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, settings: LearningSettings, epochs: int, steps_per_epoch: int
    ) -> None:
        """Set the rate of the first step."""
        total = max(epochs * steps_per_epoch, 1)
        warmup = round(settings.warmup * steps_per_epoch)
        self._optimizer = optimizer
        self._plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        if settings.lr_schedule == "plateau":
            self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer, factor=DROP, patience=settings.patience
            )
        self._warmup = warmup

        def factor(step: int) -> float:
            if settings.lr_schedule == "one-cycle":  # whose rise is its warm-up
                return lr_factor(settings, epochs, step / total)
            if step < warmup:
                return (step + 1) / (warmup + 1)
            return lr_factor(settings, epochs, (step - warmup) / max(total - warmup, 1))

        self._by_step = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        self.last = self.now

    @property
    def now(self) -> float:
        """The rate of the next step."""
        return float(self._optimizer.param_groups[0]["lr"])

    def step(self) -> None:
        """Set the rate of the next step, after one is done."""
        self.last = self.now
        if self._plateau is None or self._by_step.last_epoch < self._warmup:
            self._by_step.step()

    def end_epoch(self, loss: float) -> None:
        """Lower the rate of `plateau` if the validation loss of the epoch says so."""
        if self._plateau is not None and self._by_step.last_epoch >= self._warmup:
            self._plateau.step(loss)

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, as plain data."""
        plateau = self._plateau.state_dict() if self._plateau is not None else {}
        rates = [group["lr"] for group in self._optimizer.param_groups]
        return {"step": self._by_step.last_epoch, "lr": rates, "last": self.last, "plateau": plateau}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self._by_step.last_epoch = state["step"]
        self.last = state["last"]
        for group, lr in zip(self._optimizer.param_groups, state["lr"], strict=True):
            group["lr"] = lr
        if self._plateau is not None:
            self._plateau.load_state_dict(state["plateau"])
