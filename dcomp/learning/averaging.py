"""A moving average of the weights, which replaces them for validation and in the result."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dcomp.learning.held_weights import HeldWeights


class Average:
    """The exponential moving average of a model's parameters (Polyak and Juditsky 1992), as it trains.

    Normalization's statistics are averaged too, as they belong to the parameters that they were gathered with.
    The decay of step t is at most (1 + t) / (10 + t), so the first steps have almost the same weight.
    """

    def __init__(self, model: nn.Module, held: HeldWeights, decay: float) -> None:
        """Begin with parameters and statistics as they are; averages of held weights are zero or shared as these."""
        self._held = held
        statistics = (buffer for buffer in model.buffers() if buffer.is_floating_point())
        self._averaged: list[Tensor] = [*model.parameters(), *statistics]
        self._decay = decay
        self.tensors = [parameter.detach().clone() for parameter in self._averaged]

    @torch.no_grad()
    def step(self, number: int) -> None:
        """Add the parameters as they are after step `number`."""
        decay = min(self._decay, (1 + number) / (10 + number))
        torch._foreach_lerp_(self.tensors, self._averaged, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Replace the model's parameters by their averages within a block."""
        parameters = [parameter.data for parameter in self._averaged]
        for parameter, average in zip(self._averaged, self.tensors, strict=True):
            parameter.data = average
        self._held.enforce()
        try:
            yield
        finally:
            for parameter, data in zip(self._averaged, parameters, strict=True):
                parameter.data = data

    @torch.no_grad()
    def restore(self, tensors: list[Tensor]) -> None:
        """Restore averages that were saved."""
        for average, saved in zip(self.tensors, tensors, strict=True):
            average.copy_(saved)
