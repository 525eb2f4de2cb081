"""Dropout that goes with pruning (Han et al. 2015, "Learning both Weights and Connections", section 3.2).

A pruned layer overfits less, and so needs less of it: Dr = Do * sqrt(Cir / Cio), where Do is the rate of the dense
network, Cio the number of the layer's connections, and Cir of those that are kept.

What attention drops of its own (the argument `dropout` of `nn.MultiheadAttention`) stays as it is: it leaves out
weights that attention computes from pairs of places, which are no one layer's outputs.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd as AnyDropout


@dataclass(frozen=True)
class Follower:
    """A dropout module, its rate in the dense network, and the layer that ran last before it."""

    dropout: AnyDropout
    rate: float
    layer: nn.Module


class DropoutRule:
    """All dropout modules of a network, and the layers that they follow."""

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        """Run the network once, in evaluation mode, to see which layer runs before which dropout module."""
        self._followers: list[Follower] = []
        last: list[nn.Module] = []

        def ran(module: nn.Module, *_: object) -> None:
            if isinstance(module, AnyDropout):
                if last and all(module is not known.dropout for known in self._followers):
                    self._followers.append(Follower(module, module.p, last[-1]))
            else:
                last.append(_last_of(module))

        watched = [module for module in model.modules() if isinstance(module, AnyDropout) or _is_layer(module)]
        hooks = [module.register_forward_hook(ran) for module in watched]
        try:
            with torch.no_grad():
                model.eval()(images)
        finally:
            for hook in hooks:
                hook.remove()

    def apply(self) -> None:
        """Set every rate by what is kept of its layer now."""
        for follower in self._followers:
            weight = follower.layer.weight
            assert isinstance(weight, Tensor)  # or it were no layer
            with torch.no_grad():
                kept = int(weight.count_nonzero()) / weight.numel()
            follower.dropout.p = follower.rate * math.sqrt(kept)


def _is_layer(module: nn.Module) -> bool:
    """Whether a module has connections: a weight of two dimensions or more."""
    weight = getattr(_last_of(module), "weight", None)
    return isinstance(weight, Tensor) and weight.ndim > 1


def _last_of(module: nn.Module) -> nn.Module:
    """The layer that a module's outputs come from: attention uses its projections' weights and does not call them."""
    return module.out_proj if isinstance(module, nn.MultiheadAttention) else module
