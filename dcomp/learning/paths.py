"""Which parameters lie on a path from a network's input to its output; the others are dead, whatever they are.

A unit without input is constant, one without output says nothing: both take their bias and all their weights along.
To find them the network is run with absolute weights on an input of ones, where no two paths cancel out, and asked for
the gradient of its summed output, as Tanaka et al. 2020 do ("Pruning neural networks without any data by iteratively
conserving synaptic flow"). A gradient of exactly zero then means that there is no path.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from dcomp.errors import UsageError

UNTOLD = (nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d, nn.MultiheadAttention, nn.Embedding, nn.RNNBase)
"""Layers whose output may be zero, or whose gradient may vanish, though paths lead through them."""


def alive(model: nn.Module, images: Tensor) -> dict[str, np.ndarray]:
    """Masks of the parameters, by the names that they have without constraints, that have a path to the output.

    Those of weights need one from the input as well. Biases of units that only such weights feed are dead with them.

    Args:
        model: of convolutions, linear layers, batch normalization, pooling and rising activations.
        images: one batch as the network takes it, for its shape.

    Raises:
        UsageError: the network has other layers.
    """
    for path, module in model.named_modules():
        if isinstance(module, UNTOLD):
            raise UsageError(f"dead units cannot be told in networks with a {type(module).__name__}, such as {path}")
    from_input = _flow(model, images, biases=False)
    weights = {name: flow != 0 for name, flow in from_input.items() if not _is_bias(name)}
    to_output = _flow(model, images, biases=True, masks=weights)
    biases = {name: flow != 0 for name, flow in to_output.items() if _is_bias(name)}
    return {_plain(name): mask.cpu().numpy() for name, mask in {**weights, **biases}.items()}


def _flow(
    model: nn.Module, images: Tensor, *, biases: bool, masks: dict[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Gradient times value of each parameter, all of them made positive."""
    values = {}
    for name, parameter in model.named_parameters():
        value = parameter.detach().double().abs()
        if _is_bias(name):
            value = torch.ones_like(value) if biases else torch.zeros_like(value)
        elif masks is not None:
            value = value * masks[name]
        values[name] = value.requires_grad_()
    buffers = {
        name: torch.zeros_like(buffer, dtype=torch.float64) if name.endswith("running_mean") else buffer.double()
        for name, buffer in model.named_buffers()
        if buffer.is_floating_point()
    }
    output = functional_call(model.eval(), {**values, **buffers}, torch.ones_like(images, dtype=torch.float64))
    gradients = torch.autograd.grad(output.sum(), list(values.values()), allow_unused=True)
    return {
        name: torch.zeros_like(value) if gradient is None else value.detach() * gradient
        for (name, value), gradient in zip(values.items(), gradients, strict=True)
    }


def _is_bias(name: str) -> bool:
    return _plain(name).endswith("bias")


def _plain(name: str) -> str:
    return name.replace("parametrizations.", "").removesuffix(".original")
