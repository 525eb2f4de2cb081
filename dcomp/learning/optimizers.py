"""The optimizer that settings name, over what trains of a model; `settings.torch_optimizers` has the names."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from dcomp.errors import UsageError, did_you_mean, first_line
from dcomp.learning.held_weights import HeldWeights
from dcomp.settings import LearningSettings
from dcomp.settings.torch_optimizers import OPTIMIZERS, parsed_option

FUSED = ("cpu", "cuda")
"""Devices on which an optimizer reads a parameter and its state once in a step, not once for each operation."""

WITH_FUSED = ("sgd", "adam", "adamw")
"""Optimizers that are fused on these devices."""

SGD_MOMENTUM = 0.9
"""Nesterov momentum of sgd, unless settings name another."""

BESIDE_MUON = "adamw"
"""The optimizer of all that Muon cannot train: what has not two dimensions."""

Parameters = Sequence[Tensor]


class Combined(torch.optim.Optimizer):
    """Several optimizers, each with its own parameters, as one: they have one list of groups and one state."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        """Take the optimizers, of which none has stepped yet."""
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._parts = parts
        self._sizes = [len(part.param_groups) for part in parts]
        self._join()

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]  # without a closure
        """Step each of the optimizers.

        Raises:
            TypeError: a closure, which would compute the loss once for each.
        """
        if closure is not None:
            raise TypeError("these optimizers step without a closure")
        for part in self._parts:
            part.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, and give it to each of the optimizers."""
        super().load_state_dict(state_dict)
        self._join()

    def _join(self) -> None:
        """Give the optimizers the groups and the state of this one."""
        groups = iter(self.param_groups)
        for part, size in zip(self._parts, self._sizes, strict=True):
            part.param_groups = [next(groups) for _ in range(size)]
            part.state = self.state


def make_optimizer(model: nn.Module, settings: LearningSettings) -> torch.optim.Optimizer:
    """Return the optimizer that the settings name, over all parameters of the model that train.

    Raises:
        UsageError: torch has no such optimizer, or the optimizer takes no such options.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    options = dict(map(parsed_option, settings.optimizer_option))
    make = _make_muon if settings.optimizer == "muon" else partial(_make, settings.optimizer)
    optimizer = make(parameters, settings, options)
    if settings.l1 is not None:
        _penalize_before_steps(optimizer, settings.l1)
    return optimizer


def _make_muon(parameters: Parameters, settings: LearningSettings, options: Mapping[str, Any]) -> Combined:
    """Return Muon for the matrices among parameters, and another optimizer for the others."""
    matrices = [parameter for parameter in parameters if parameter.ndim == 2]
    others = [parameter for parameter in parameters if parameter.ndim != 2]
    same_rate = {"adjust_lr_fn": "match_rms_adamw"}  # so that one learning rate fits both
    parts = [_make("muon", matrices, settings, same_rate | dict(options))] if matrices else []
    parts += [_make(BESIDE_MUON, others, settings, {})] if others else []
    return Combined(parts)


def check(settings: LearningSettings) -> None:
    """Raise UsageError if the optimizer of settings cannot be made."""
    make_optimizer(nn.Linear(1, 1), settings)


def clip_before_steps(optimizer: torch.optim.Optimizer, held: HeldWeights, largest_norm: float) -> None:
    """Scale longer gradients to a norm before each step; a shared value counts once."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def clip(*_: object) -> None:
        norm = nn.utils.get_total_norm(list(held.trained_gradients()))
        nn.utils.clip_grads_with_norm_(parameters, largest_norm, norm)

    optimizer.register_step_pre_hook(clip)


def _penalize_before_steps(optimizer: torch.optim.Optimizer, l1: float) -> None:
    """Add the gradient of an L1 penalty, `l1` times the sign, to that of each weight; vectors, as biases, have none.

    Zeros have no sign, so they stay zero. The members of a shared value are penalized one by one.
    """
    weights = [parameter for group in optimizer.param_groups for parameter in group["params"] if parameter.ndim > 1]

    def penalize(*_: object) -> None:
        for weight in weights:
            if weight.grad is not None:
                weight.grad.add_(weight.detach().sign(), alpha=l1)

    optimizer.register_step_pre_hook(penalize)


def _make(name: str, parameters: Parameters, settings: LearningSettings, options: Mapping[str, Any]) -> Any:
    """Return an optimizer over parameters, of which there is at least one."""
    kind = OPTIMIZERS[name]
    arguments: dict[str, Any] = {"lr": settings.lr}
    if name in WITH_FUSED:
        arguments["fused"] = parameters[0].device.type in FUSED
    if kind.takes_weight_decay:
        arguments["weight_decay"] = settings.weight_decay
    momentum = SGD_MOMENTUM if name == "sgd" and settings.momentum is None else settings.momentum
    if kind.takes_momentum and momentum is not None:
        arguments["momentum"] = momentum
    if name == "sgd":
        arguments["nesterov"] = arguments["momentum"] > 0
    make = getattr(torch.optim, kind.class_name, None)
    if make is None:
        raise UsageError(f"torch {torch.__version__} has no optimizer {kind.class_name}: a later torch has")
    _check_names(kind.class_name, options, signature(make).parameters)
    try:
        return make(parameters, **(arguments | dict(options)))
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{kind.class_name} of torch refuses its options: {first_line(error)}") from error


def _check_names(class_name: str, options: Iterable[str], names: Iterable[str]) -> None:
    """Raise UsageError for an option that an optimizer does not have."""
    choices = [name for name in names if name != "params"]
    for name in options:
        if name not in choices:
            hint = did_you_mean(name, choices) or f"; it has {', '.join(choices)}"
            raise UsageError(f"{class_name} of torch has no option {name!r}{hint}")
