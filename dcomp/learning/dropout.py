"""Dropout rates that fall as layers are pruned (Han et al. 2015, "Learning both Weights and Connections", section 3.2).

A pruned layer overfits less, and so needs less dropout: Dr = Do * sqrt(Cir / Cio), where Do is the rate of the dense
network, Cio the number of the layer's connections, and Cir of those that are kept.

The dropout within attention (the argument `dropout` of `nn.MultiheadAttention`) stays as it is: it acts on the
attention between pairs of places, which is no layer's output.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd as AnyDropout

from dcomp.learning.trial import Trial


@dataclass(frozen=True)
class Follower:
    """A dropout module, its rate in the dense network, and the layer that ran last before it."""

    dropout: AnyDropout
    rate: float
    layer: nn.Module


class DropoutRule:
    """All dropout modules of a network, and the layers that they follow."""

    def __init__(self, trial: Trial) -> None:
        """Run the network once, in evaluation mode, to see which layer runs before which dropout module."""
        model = trial.model
        self._followers: list[Follower] = []
        last: list[nn.Module] = []

        def ran(module: nn.Module, *_: object) -> None:
            if isinstance(module, AnyDropout):
                if last and all(module is not follower.dropout for follower in self._followers):
                    self._followers.append(Follower(module, module.p, last[-1]))
            else:
                last.append(_last_of(module))

        watched = [module for module in model.modules() if isinstance(module, AnyDropout) or _is_layer(module)]
        hooks = [module.register_forward_hook(ran) for module in watched]
        try:
            trial.run()
        finally:
            for hook in hooks:
                hook.remove()

    def apply(self) -> None:
        """Set every rate by the part of its layer's weights that is kept now."""
        for follower in self._followers:
            weight = follower.layer.weight
            assert isinstance(weight, Tensor)  # by `_is_layer`
            with torch.no_grad():
                kept = int(weight.count_nonzero()) / weight.numel()
            follower.dropout.p = follower.rate * math.sqrt(kept)


def _is_layer(module: nn.Module) -> bool:
    """Tell whether a module has connections: a weight of two dimensions or more."""
    weight = getattr(_last_of(module), "weight", None)
    return isinstance(weight, Tensor) and weight.ndim > 1


def _last_of(module: nn.Module) -> nn.Module:
    """Return the layer that makes a module's outputs; attention never calls its projection, but uses its weights."""
    return module.out_proj if isinstance(module, nn.MultiheadAttention) else module
