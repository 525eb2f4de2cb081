"""Models and optimizers that others wrap: by DistributedDataParallel, torch.compile, a moving average, Accelerate."""

from collections.abc import Iterable

import torch
from torch import nn

from dcomp.checkpoints import prefixes
from dcomp.errors import UsageError

WRAPPERS: dict[type[nn.Module], str] = {
    nn.parallel.DistributedDataParallel: "module",
    nn.DataParallel: "module",
    torch.optim.swa_utils.AveragedModel: "module",
}
"""Modules that hold a model under a name; torch.compile's, whose class is private, are known by that name."""

COMPILED = "_orig_mod"

SHARDING = {"FullyShardedDataParallel": "FSDP", "FSDPModule": "FSDP", "DTensor": "DTensor", "FlatParameter": "FSDP"}
"""Classes of modules and parameters that hold parts of weights, and what they are called."""


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model that wrappers hold; any other model as it is."""
    while (name := _name_inside(model)) is not None:
        model = getattr(model, name)
    return model


def plain_names(model: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """Return each name of the model's state without the parts that wrappers within the model add."""
    inside = {path: name for path, module in model.named_modules() if (name := _name_inside(module)) is not None}
    return {name: _without(name, inside) for name in names} if inside else {name: name for name in names}


def unwrapped_optimizer(optimizer: object) -> torch.optim.Optimizer:
    """Return the optimizer of torch that wrappers, as those of Accelerate and Lightning, hold.

    Raises:
        UsageError: it is none.
    """
    while isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = inner
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UsageError(f"give the optimizer of the loop, a torch.optim.Optimizer, not a {type(optimizer).__name__}")
    return optimizer


def check_weights_are_here(model: nn.Module) -> None:
    """Raise UsageError for a model whose parameters are no plain weights: sharded, pruned by torch, or lazy."""
    for kind in dict.fromkeys(type(part) for part in (*model.modules(), *model.parameters())):
        for parent in kind.__mro__:
            if parent.__name__ in SHARDING:
                raise UsageError(
                    f"{SHARDING[parent.__name__]} shards the parameters of this model ({kind.__name__}), which is not "
                    "supported: use DistributedDataParallel, or run dcomp prune and dcomp quantize on its checkpoint"
                )
    for name, parameter in model.named_parameters():
        if nn.parameter.is_lazy(parameter) or parameter.is_meta:
            raise UsageError(f"{name} has no values yet: run the model once, or load its weights, before")
        if parameter.ndim > 1 and torch.empty_like(parameter, device="meta").stride() != parameter.stride():
            raise UsageError(f"{name} is a part of a larger tensor, or repeats its elements: make it of .contiguous()")
    halves = prefixes.pairs({name: tuple(getattr(tensor, "shape", ())) for name, tensor in model.state_dict().items()})
    for weight in halves:
        raise UsageError(f"torch.nn.utils.prune holds {weight} as original and mask: call its remove() before")


def _name_inside(module: nn.Module) -> str | None:
    """Return the name under which a wrapper holds a model; None for any other module."""
    if COMPILED in module._modules:
        return COMPILED
    return next((name for kind, name in WRAPPERS.items() if isinstance(module, kind)), None)


def _without(name: str, inside: dict[str, str]) -> str:
    """Return a name without the parts that wrappers add; `inside` has their paths and these parts."""
    parts = name.split(".")
    kept = [part for place, part in enumerate(parts) if inside.get(".".join(parts[:place])) != part]
    return ".".join(kept)
