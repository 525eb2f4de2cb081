"""Running means of squared gradients, as a person's own loop computes them; they approximate the curvature of the loss.

See `gradients`, which computes them in a pass of its own.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class RunningSquares:
    """The mean of a tensor's squared gradients in the steps since it was last read."""

    def __init__(self) -> None:
        """Begin with no gradients."""
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._were_read: set[str] = set()

    @torch.no_grad()
    def add(self, name: str, gradient: Tensor, scale: Tensor | float = 1.0) -> None:
        """Add the gradient of one step, which was multiplied by `scale`."""
        square = (gradient.float() / scale).square_()
        if name in self._sums and name not in self._were_read:
            self._sums[name] += square
            self._counts[name] += 1
        else:
            self._sums[name], self._counts[name] = square, 1
            self._were_read.discard(name)

    def mean(self, name: str) -> Tensor | None:
        """Return the mean, in float32; None if there was no gradient. The next gradient begins a new mean."""
        if name not in self._sums:
            return None
        self._were_read.add(name)
        return self._sums[name] / self._counts[name]

    def keep_only(self, names: set[str]) -> None:
        """Forget all others."""
        for name in self._sums.keys() - names:
            del self._sums[name], self._counts[name]
        self._were_read &= names

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs."""
        sums = {name: total.clone() for name, total in self._sums.items()}
        return {"sums": sums, "counts": dict(self._counts), "were_read": sorted(self._were_read)}

    def restore(self, state: Mapping[str, Any], parameters: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned, on the devices of the parameters.

        Raises:
            ValueError: it is of other parameters.
        """
        for name, total in state["sums"].items():
            if total.shape != parameters[name].shape or not state["counts"][name] > 0:
                raise ValueError(f"squared gradients of {name}")
        self._sums = {name: total.to(parameters[name].device).clone() for name, total in state["sums"].items()}
        self._counts, self._were_read = dict(state["counts"]), set(state["were_read"])
