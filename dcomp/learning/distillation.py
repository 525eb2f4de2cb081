"""Distillation: how far a network's outputs are from those of its teacher, for the same inputs.

The teacher may be any network, as the dense one that a pruned network comes from, and an output anything that holds
tensors of floats: those that both networks give are compared.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dcomp.checkpoints import layers
from dcomp.errors import ArchitectureError, UsageError
from dcomp.learning.calls import Call
from dcomp.learning.devices import in_precision
from dcomp.learning.network_outputs import class_dimension, float_tensors, main_tensor
from dcomp.learning.trial import Trial
from dcomp.settings import LearningSettings

Distance = Callable[[Tensor, Tensor], Tensor]
"""The mean distance of a tensor from the teacher's, of the same shape."""


class Term(NamedTuple):
    """A part of the loss, and its factor."""

    factor: float
    value: Tensor


def divergence(tensor: Tensor, answer: Tensor, temperature: float = 1.0) -> Tensor:
    """Return KL(teacher || network) in nats, a mean over examples, and over their positions; both are softened."""
    rows, wanted = (each.movedim(class_dimension(each), -1).flatten(0, -2) / temperature for each in (tensor, answer))
    return F.kl_div(F.log_softmax(rows, 1), F.log_softmax(wanted, 1), reduction="batchmean", log_target=True)


def cosine(tensor: Tensor, answer: Tensor) -> Tensor:
    """Return 1 - the cosine of the angle between features, a mean over examples and positions."""
    return 1 - F.cosine_similarity(tensor, answer, class_dimension(tensor)).mean()


DISTANCES: Mapping[str, Distance] = {"mse": F.mse_loss, "cosine": cosine}
"""Distances of any tensors; `kl` compares the scores of classes."""


class Distillation:
    """The distance of a network from its teacher.

    With `kl` it is T^2 * KL(teacher || network), both softened by the temperature T; T^2 keeps the size of its gradient
    (Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2). The outputs of modules count as
    much as those of the networks (Romero et al. 2015, "FitNets: Hints for Thin Deep Nets").
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, settings: LearningSettings, *, of_classes: bool) -> None:
        """Freeze the teacher, and find the modules to compare.

        Args:
            student: the network that learns, as it is before it is wrapped for parallel training.
            teacher: on the same device.
            settings: name the distance, the temperature, and the modules.
            of_classes: whether outputs are the scores of classes.

        Raises:
            UsageError: no module has such a name, or the temperature would do nothing.
            ArchitectureError: the teacher has no such module.
        """
        self._teacher = teacher.eval().requires_grad_(False)
        self._settings = settings
        self._kind = settings.distill_loss or ("kl" if of_classes else "mse")
        if self._kind != "kl" and "temperature" in settings.model_fields_set:
            raise UsageError(f"temperature (--temperature) does nothing for {self._kind}: give distill_loss kl as well")
        names = _matching(student, settings.distill_at)
        self._modules = [student.get_submodule(name) for name in names]
        self._modules_of_teacher = [_module_of_teacher(teacher, name) for name in names]

    def check(self, trial: Trial) -> None:
        """Compare the network with its teacher on one example.

        Raises:
            ArchitectureError: their outputs cannot be compared.
        """
        with torch.no_grad(), self.watched() as hidden:
            self.terms(trial.call(), hidden)

    def watched(self) -> AbstractContextManager[list[list[Any]]]:
        """Return a context manager that yields, for each module to compare, the list of its outputs in the block."""
        return watched(self._modules)

    def terms(self, call: Call, hidden: Sequence[Sequence[Any]]) -> list[Term]:
        """Return the distances of one call of the network; the teacher gets the same arguments.

        Args:
            call: of the network.
            hidden: outputs of the modules to compare, in order.

        Raises:
            ArchitectureError: the teacher's outputs have other shapes, or there is nothing to compare.
        """
        device = next(self._teacher.parameters()).device
        with (
            torch.no_grad(),
            in_precision(device, self._settings.precision),
            watched(self._modules_of_teacher) as wanted,
        ):
            answer = self._teacher(*call.arguments, **call.keywords)
        terms = [self._of_outputs(call.output, answer)]
        if hidden:
            distance = DISTANCES["cosine" if self._kind == "cosine" else "mse"]
            each = [_mean_distance(distance, *pair, "a module") for pair in zip(hidden, wanted, strict=True)]
            terms.append(Term(1.0, torch.stack(each).mean()))
        return terms

    def _of_outputs(self, output: Any, answer: Any) -> Term:
        """Return the distance of the networks' outputs."""
        if self._kind != "kl":
            return Term(1.0, _mean_distance(DISTANCES[self._kind], output, answer, "the network"))
        scores, wanted = main_tensor(output), main_tensor(answer)
        if scores is None or wanted is None or scores.ndim < 2:
            raise ArchitectureError("the network or its teacher gives no scores of classes: give distill_loss mse")
        classes, of_teacher = (each.shape[class_dimension(each)] for each in (scores, wanted))
        if classes != of_teacher:
            raise ArchitectureError(f"the teacher has {of_teacher} classes, and the network {classes}")
        if classes < 2:
            raise ArchitectureError("one class has no probabilities to compare (kl): give distill_loss mse")
        _check_shapes("", scores, wanted, "the network")
        temperature = self._settings.temperature
        return Term(temperature**2, divergence(scores.float(), wanted.float(), temperature))


@contextmanager
def watched(modules: Sequence[nn.Module]) -> Iterator[list[list[Any]]]:
    """Yield a list for each module, of its outputs in the block; a module may be called several times."""
    outputs: list[list[Any]] = [[] for _ in modules]
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output, seen=seen: seen.append(output))
        for module, seen in zip(modules, outputs, strict=True)
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _matching(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Return the names of the modules that match one of the patterns as a whole.

    Raises:
        UsageError: a pattern matches none.
    """
    names = [name for name, _ in model.named_modules() if name]
    for pattern in patterns:
        if not any(re.fullmatch(pattern, name) for name in names):
            there_are = layers.listed(names, 8) or "none"
            raise UsageError(f"distill_at (--distill-at) {pattern!r} matches no module; there are {there_are}")
    return [name for name in names if any(re.fullmatch(pattern, name) for pattern in patterns)]


def _module_of_teacher(teacher: nn.Module, name: str) -> nn.Module:
    try:
        return teacher.get_submodule(name)
    except AttributeError as error:
        raise ArchitectureError(f"the teacher has no module {name!r}, which distill_at (--distill-at) names") from error


def _mean_distance(distance: Distance, output: Any, answer: Any, whose: str) -> Tensor:
    """Return the mean distance of the tensors of floats that two outputs both have.

    Raises:
        ArchitectureError: there are none, or they have other shapes.
    """
    tensors, wanted = float_tensors(output), float_tensors(answer)
    common = [place for place in tensors if place in wanted]
    if not common:
        raise ArchitectureError(f"{whose} and the teacher's give no tensors of floats at the same places to compare")
    for place in common:
        _check_shapes(place, tensors[place], wanted[place], whose)
    return torch.stack([distance(tensors[place], wanted[place]) for place in common]).mean()


def _check_shapes(place: str, tensor: Tensor, wanted: Tensor, whose: str) -> None:
    """Raise ArchitectureError unless a tensor of an output has the shape of the teacher's."""
    if tensor.shape != wanted.shape:
        where = f" in {place}" if place else ""
        raise ArchitectureError(
            f"{whose} gives a tensor of shape {tuple(tensor.shape)}{where}, and the teacher {tuple(wanted.shape)}: "
            "they cannot be compared"
        )
