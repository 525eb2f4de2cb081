"""The calls of a network while something else runs it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Call:
    """One call of a network: its arguments, and its output."""

    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    output: Any


@contextmanager
def recorded(model: nn.Module) -> Iterator[list[Call]]:
    """Yield a list of a network's calls in a block; outputs that are tensors of floats become float32."""
    calls: list[Call] = []

    def record(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> Any:
        if isinstance(output, Tensor) and output.is_floating_point():
            output = output.float()
        calls.append(Call(arguments, keywords, output))
        return output

    handle = model.register_forward_hook(record, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()
