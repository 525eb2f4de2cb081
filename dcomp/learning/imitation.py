"""A task without labels: a network learns to give the answers of its teacher."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dcomp.errors import ArchitectureError, first_line
from dcomp.learning.calls import recorded
from dcomp.learning.distillation import Distillation
from dcomp.learning.network_outputs import answer_to, main_tensor
from dcomp.progress.measurement import LOSS, Judge


class Imitation:
    """The distance of a network from its teacher; the content of a batch is the network's input.

    An input is a tensor, a mapping of keywords, or a list of arguments.

    Attributes:
        judge: the distance.
        metric_names: the distance alone.
        distillation: measures the distance; None until there is a teacher.
    """

    judge = Judge(LOSS)
    metric_names = (LOSS,)

    def __init__(self) -> None:
        self.distillation: Distillation | None = None

    def check(self, model: nn.Module, content: Any, architecture: str) -> None:
        """Check that a network takes an input, and gives a tensor of floats.

        Raises:
            ArchitectureError: it does not.
        """
        try:
            with torch.no_grad():
                output = answer_to(model.eval(), content)
        except Exception as error:  # the user's code may raise anything
            raise ArchitectureError(
                f"{architecture} does not take the inputs of the data: {first_line(error)}"
            ) from error
        if main_tensor(output) is None:
            raise ArchitectureError(
                f"{architecture} gives no tensor of floats, which could be compared with a teacher's"
            )

    def loss(self, model: nn.Module, content: Any, label_smoothing: float = 0.0) -> Tensor:
        """Call the network, and return 0: all of the loss is the teacher's part."""
        answer_to(model, content)
        return torch.zeros((), device=next(model.parameters()).device)

    def sums(self, model: nn.Module, content: Any, size: int) -> dict[str, float]:
        """Return the distance from the teacher, times the size of the batch; 0 until there is a teacher."""
        if self.distillation is None:
            return {LOSS: 0.0}
        with recorded(model) as calls, self.distillation.watched() as hidden:
            answer_to(model, content)
        return {LOSS: size * sum(term.factor * term.value.item() for term in self.distillation.terms(calls[0], hidden))}

    def means(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        """Return the mean distance."""
        return {LOSS: sums[LOSS] / count}

    def accuracy(self, output: Any, content: Any) -> None:
        """Return None: there are no right answers."""
