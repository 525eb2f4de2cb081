"""Contents of batches of any form: moved to a device, and counted."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dcomp.errors import DataError


def to_device(content: Any, device: torch.device) -> Any:
    """Return the content of a batch with its tensors on a device; tuples, lists and mappings keep their kinds."""
    if callable(getattr(content, "to", None)):  # tensors, and what libraries of language models make
        return content.to(device)
    if isinstance(content, Mapping):
        return {key: to_device(value, device) for key, value in content.items()}
    if isinstance(content, tuple) and hasattr(content, "_fields"):
        return type(content)(*(to_device(value, device) for value in content))
    if isinstance(content, list | tuple):
        return type(content)(to_device(value, device) for value in content)
    return content


def size_of(content: Any) -> int:
    """Return how many examples a batch has: the length of its first tensor, those within tuples and mappings last.

    Raises:
        DataError: it has no tensor that says so.
    """
    size = _size(content)
    if size is None:
        raise DataError(
            f"the number of examples in a batch is unknown: it is a {type(content).__name__} without tensors of "
            "examples; a loader's batches are tensors, or tuples, lists and mappings of tensors"
        )
    return size


def _size(content: Any) -> int | None:
    if isinstance(content, Tensor):
        return len(content) if content.ndim else None
    if isinstance(content, Mapping):
        content = list(content.values())
    if not isinstance(content, list | tuple):
        return None
    ordered = sorted(content, key=lambda value: not isinstance(value, Tensor))
    return next((size for value in ordered if (size := _size(value)) is not None), None)
