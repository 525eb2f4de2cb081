"""What networks return: a tensor, or tuples, mappings and dataclasses of tensors, as those of Transformers."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor, nn

LOGITS = "logits"
"""The name under which networks return the scores of classes, where they return several tensors."""


def float_tensors(output: Any) -> dict[str, Tensor]:
    """Return the tensors of floats in an output, in single precision, by their places in it, like `hidden_states.0`.

    Numbers, as a loss that a network computes, are left out.
    """
    return {place: tensor.float() for place, tensor in _of_floats(output).items()}


def main_tensor(output: Any) -> Tensor | None:
    """Return the tensor that an output is about: its logits, else its first tensor of floats; None without any.

    It is as the network returns it, in any precision.
    """
    tensors = _of_floats(output)
    return tensors.get(LOGITS, next(iter(tensors.values()), None))


def answer_to(model: nn.Module, inputs: Any) -> Any:
    """Return the output of a network for an input: a tensor, a mapping of keywords, or a list of arguments."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, list | tuple) else model(inputs)


def logits_of(output: Any) -> Any:
    """Return the scores of classes in an output, in single precision; what has none as it is."""
    tensor = None if isinstance(output, Tensor) else main_tensor(output)
    return output if tensor is None else tensor.float()


def class_dimension(tensor: Tensor) -> int:
    """Return the dimension of classes or features: 1 of vectors and images, the last of sequences (n, length, size)."""
    return 1 if tensor.ndim in (2, 4, 5) else -1


def _of_floats(output: Any) -> dict[str, Tensor]:
    """Return the tensors of floats in an output, which are no single numbers, by their places in it."""
    return {place: tensor for place, tensor in _tensors("", output) if tensor.ndim and tensor.is_floating_point()}


def _tensors(place: str, output: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor of an output with its place."""
    if isinstance(output, Tensor):
        yield place, output
        return
    items: Any = ()
    if isinstance(output, Mapping):
        items = output.items()
    elif isinstance(output, list | tuple):
        items = enumerate(output)
    elif is_dataclass(output):
        items = [(field.name, getattr(output, field.name)) for field in fields(output)]
    for key, value in items:
        yield from _tensors(f"{place}.{key}" if place else str(key), value)
