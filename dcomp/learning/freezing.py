"""Tensors that stay as they are while the rest of a network trains (NIPS 2015: the FC layers, with CONV fixed)."""

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from dcomp.checkpoints import layers
from dcomp.errors import UsageError


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Freeze the tensors of a model whose names match; one that matches under any of its names does.

    Frozen parameters need no gradients, so no optimizer gets them. A normalization layer whose running statistics match
    keeps these, and normalizes by them in training too.

    Args:
        model: its parameters are those of its state.
        patterns: regular expressions, each for names as in the model's state.

    Raises:
        UsageError: a pattern matches no name, or nothing would train.
    """
    if not patterns:
        return
    check_match(patterns, list(model.state_dict()))
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if _matches(patterns, name):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError("freeze matches all parameters, so nothing would train")
    for path, module in model.named_modules():
        if isinstance(module, _NormBase) and _matches(patterns, f"{path}.running_mean".lstrip(".")):
            _keep_in_evaluation(module)


def check_match(patterns: Sequence[str], names: Sequence[str]) -> None:
    """Raise UsageError if one of the patterns matches none of the names."""
    for pattern in patterns:
        if not _matches([pattern], *names):
            raise UsageError(f"freeze: no tensor matches {pattern!r}; there are {layers.listed(names, 8)}")


def _matches(patterns: Sequence[str], *names: str) -> bool:
    return any(layers.matches_any(pattern, names) for pattern in patterns)


def _keep_in_evaluation(module: nn.Module) -> None:
    """Set a module to evaluation; later calls of `train` of the whole network leave it so."""
    module.eval()
    module.train = lambda mode=True: module  # type: ignore[method-assign]  # of this module alone
