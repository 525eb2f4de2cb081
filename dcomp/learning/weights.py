"""The weights of a model: all parameters but vectors, by their names in its state; tied ones by each of their names."""

from collections.abc import Iterator

from torch import nn

from dcomp.checkpoints.tensors import Spec, Tensors
from dcomp.learning.conversion import numpy_dtype, to_numpy


def sparsities(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Return zeros and size of each weight, by name."""
    return {name: (weight.numel() - int(weight.count_nonzero()), weight.numel()) for name, weight in _weights(model)}


def tensors_of(model: nn.Module) -> Tensors:
    """Return all weights; each is read when it is indexed."""
    specs = {name: Spec(numpy_dtype(tensor, name), tuple(tensor.shape)) for name, tensor in _weights(model)}
    return Tensors(specs, lambda names: [to_numpy(model.get_parameter(name)) for name in names])


def _weights(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    named = model.named_parameters(remove_duplicate=False)
    return ((name, parameter) for name, parameter in named if parameter.ndim > 1)
