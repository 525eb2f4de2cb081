"""The weights of a model: all parameters but vectors, by their names in its state; tied ones by each of their names."""

from collections.abc import Iterator

from torch import Tensor, nn

from dcomp.checkpoints.tensors import Tensors
from dcomp.learning.conversion import lazy_arrays


def sparsity(model: nn.Module) -> float:
    """Return the fraction of zeros in all weights; tied ones count once."""
    weights = {id(weight): weight for _, weight in _weights(model)}.values()
    return sum(map(_zeros, weights)) / max(sum(weight.numel() for weight in weights), 1)


def sparsities(model: nn.Module) -> dict[str, float]:
    """Return the fraction of zeros in each weight, by name."""
    return {name: _zeros(weight) / max(weight.numel(), 1) for name, weight in _weights(model)}


def tensors_of(model: nn.Module) -> Tensors:
    """Return all weights; each is read when it is indexed."""
    return lazy_arrays(dict(_weights(model)))


def _zeros(weight: Tensor) -> int:
    return int((weight == 0).sum())  # types of 8 bits have no count_nonzero


def _weights(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    named = model.named_parameters(remove_duplicate=False)
    return ((name, parameter) for name, parameter in named if parameter.ndim > 1)
