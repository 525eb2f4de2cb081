"""One batch through a network, to see what the network does with it."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dcomp.errors import UsageError
from dcomp.learning.calls import Call, recorded
from dcomp.learning.examples import Examples


class Trial:
    """A network and the first examples of its data.

    Attributes:
        model: the network, on the device of the examples.
    """

    def __init__(self, model: nn.Module, examples: Examples) -> None:
        """Read the examples."""
        self.model = model
        self._objective = examples.objective
        self._batch = examples.first()

    def check(self, architecture: str) -> None:
        """Check that the network takes the examples, and that loss and metrics are as they should be.

        Raises:
            ArchitectureError, DataError: they are not.
        """
        self._objective.check(self.model, self._batch.content, architecture)

    def metric_names(self) -> list[str]:
        """Return the names of the metrics of the task."""
        with torch.no_grad():
            return list(self._objective.sums(self.model.eval(), self._batch.content, self._batch.size))

    def run(self) -> None:
        """Run the network once, without gradients, in evaluation mode."""
        with torch.no_grad():
            self._objective.loss(self.model.eval(), self._batch.content)

    def call(self) -> Call:
        """Run the network once, and return its first call.

        Raises:
            UsageError: the loss of the task does not call the network, but parts of it.
        """
        with recorded(self.model) as calls:
            self.run()
        if not calls:
            raise UsageError("the loss of the task does not call the model itself: have it call model(...)")
        return calls[0]

    def input_tensor(self) -> Tensor:
        """Return the input of the network, a tensor of floats.

        Raises:
            UsageError: the network takes other inputs, or returns more than a tensor.
        """
        call = self.call()
        if len(call.arguments) == 1 and not call.keywords and isinstance(call.output, Tensor):
            [inputs] = call.arguments
            if isinstance(inputs, Tensor) and inputs.is_floating_point():
                return inputs
        raise UsageError("dead units can be found in networks that take one tensor of floats and return one tensor")

    def multiplications(self) -> float:
        """Return the multiplications of convolutions and matrix products for an example; inf if torch cannot count."""
        counter = FlopCounterMode(display=False)
        try:
            with counter:
                self.run()
        except Exception:  # the network takes this batch: it is the counter that fails
            return float("inf")
        return counter.get_total_flops() / 2 / self._batch.size
