"""Weights that `torch.nn.utils.prune` holds as an original and a mask, merged into one weight, and split again."""

from collections.abc import Mapping

import torch

from dcomp.checkpoints.prefixes import merged_names, pairs
from dcomp.errors import CheckpointError, first_line


def product(original: torch.Tensor, mask: torch.Tensor, name: str) -> torch.Tensor:
    """Multiply an original by its mask, as torch does where the weight is used; a pruned weight is 0.0, never -0.0.

    Raises:
        CheckpointError: torch cannot multiply this dtype; `name` is in the message.
    """
    try:
        weight = mask.to(dtype=original.dtype) * original
        return torch.where((mask == 0) & (weight == 0), torch.zeros((), dtype=weight.dtype), weight)
    except RuntimeError as error:
        raise CheckpointError(
            f"tensor {name!r} is pruned by torch, and cannot be multiplied: {first_line(error)}"
        ) from error


def merged(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state with each pruned weight as one tensor, in the place of its original."""
    halves = pairs({name: tensor.shape for name, tensor in state.items()})
    return {
        weight: product(state[name], state[halves[weight][1]], weight) if weight in halves else state[name]
        for name, weight in merged_names(state, halves).items()
    }


def split(state: Mapping[str, torch.Tensor], pruned_state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state with weights split into original and mask, where `pruned_state` has them so; zeros are masked."""
    divided = dict(state)
    for weight, (original, mask) in pairs({name: tensor.shape for name, tensor in pruned_state.items()}).items():
        if weight in state and original not in state and mask not in state:
            divided[original] = divided.pop(weight)
            divided[mask] = (divided[original] != 0).to(pruned_state[mask].dtype)
    return divided
