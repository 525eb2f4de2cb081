"""Which parameters lie on a path from a network's input to its output; all others are dead, and change no output.

A unit without input is constant, and one without output has no effect: all weights and the bias of both are dead. To
find them, the network runs with absolute weights on a positive input, where no two paths cancel out, and the gradient
of its summed output is computed, as Tanaka et al. 2020 do ("Pruning neural networks without any data by iteratively
conserving synaptic flow"). A gradient of exactly zero then means that there is no path. Weights are scaled so that no
unit sums to more than its largest input, so none saturates. Averages replace max pooling, which selects one input.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from dcomp.errors import UsageError

UNSUPPORTED = (nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d, nn.MultiheadAttention, nn.Embedding, nn.RNNBase)
"""Layers whose output may be zero, or whose gradient may vanish, although paths lead through them."""

INPUT, BIAS = 0.5, 2.0**-10
"""Below where activations saturate."""


def alive(model: nn.Module, inputs: Tensor) -> dict[str, np.ndarray]:
    """Return masks of the parameters that have a path to the output, by their names.

    Weights need a path from the input as well. A bias is dead if its unit has no output. What has no path even where
    nothing is pruned, or is not used in evaluation, counts as alive.

    Args:
        model: of convolutions, linear layers, batch normalization, pooling and rising activations.
        inputs: one batch as the network takes it, for its shape.

    Raises:
        UsageError: the network has other layers.
    """
    for path, module in model.named_modules():
        if isinstance(module, UNSUPPORTED):
            raise UsageError(f"dead units cannot be found in networks with a {type(module).__name__}, such as {path}")
    from_input = _flow(model, inputs, biases=False)
    weights = {name: flow != 0 for name, flow in from_input.items() if not _is_bias(name)}
    to_output = _flow(model, inputs, biases=True, masks=weights)
    biases = {name: flow != 0 for name, flow in to_output.items() if _is_bias(name)}
    unpruned = _flow(model, inputs, biases=True, unpruned=True)
    return {name: (mask | (unpruned[name] == 0)).cpu().numpy() for name, mask in {**weights, **biases}.items()}


def _flow(
    model: nn.Module,
    inputs: Tensor,
    *,
    biases: bool,
    masks: dict[str, Tensor] | None = None,
    unpruned: bool = False,
) -> dict[str, Tensor]:
    """Return gradient times value of each parameter, with absolute values for all parameters."""
    dtype = torch.float32 if inputs.device.type == "mps" else torch.float64  # MPS has no more
    values = {}
    for name, parameter in model.named_parameters():
        value = parameter.detach().to(dtype).abs()
        if unpruned:
            value = torch.where(value == 0, 1, value)
        if _is_bias(name):
            value = torch.full_like(value, BIAS if biases else 0)
        else:
            value = value if masks is None else value * masks[name]
            largest = value.reshape(*value.shape[:1], -1).sum(-1).max() if value.numel() else 0
            value = value / largest if largest > 0 else value
        values[name] = value.requires_grad_()
    buffers = {name: _neutral(name, buffer, dtype) for name, buffer in model.named_buffers()}
    with _Averages():
        output = functional_call(model.eval(), {**values, **buffers}, torch.full_like(inputs, INPUT, dtype=dtype))
    gradients = torch.autograd.grad(output.sum(), list(values.values()), allow_unused=True)
    return {
        name: torch.zeros_like(value) if gradient is None else value.detach() * gradient
        for (name, value), gradient in zip(values.items(), gradients, strict=True)
    }


def _neutral(name: str, buffer: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a buffer that cuts no path: normalization has mean 0 and variance 1."""
    if not buffer.is_floating_point():
        return buffer
    if name.endswith("running_mean"):
        return torch.zeros_like(buffer, dtype=dtype)
    return torch.ones_like(buffer, dtype=dtype) if name.endswith("running_var") else buffer.to(dtype)


class _Averages(TorchFunctionMode):
    """A context in which pooling averages and softmax passes its input on: all inputs have a part in the output."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, or its replacement."""
        called: Callable[..., Any] = REPLACEMENTS.get(getattr(func, "__name__", ""), func)
        return called(*args, **(kwargs or {}))


def _averaging(pool: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def averaged(
        images: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Tensor:
        if dilation not in (1, (1, 1), [1, 1]) or return_indices:
            raise UsageError("dead units cannot be found in networks whose pooling is dilated, or returns indices")
        return pool(images, kernel_size, stride, padding, ceil_mode)

    return averaged


def _adaptive(pool: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda images, output_size, return_indices=False: pool(images, output_size)


def _as_it_is(logits: Tensor, *_: Any, **__: Any) -> Tensor:
    return logits


REPLACEMENTS: dict[str, Callable[..., Tensor]] = {
    "max_pool1d": _averaging(F.avg_pool1d),
    "max_pool2d": _averaging(F.avg_pool2d),
    "max_pool3d": _averaging(F.avg_pool3d),
    "adaptive_max_pool1d": _adaptive(F.adaptive_avg_pool1d),
    "adaptive_max_pool2d": _adaptive(F.adaptive_avg_pool2d),
    "adaptive_max_pool3d": _adaptive(F.adaptive_avg_pool3d),
    "softmax": _as_it_is,
    "log_softmax": _as_it_is,
}
"""By the names that functions have in torch and in torch.nn.functional alike."""


def _is_bias(name: str) -> bool:
    return name.endswith("bias")
