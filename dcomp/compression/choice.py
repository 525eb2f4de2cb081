"""The tensors of a checkpoint that a stage changes, and the values that rules give to single ones."""

from collections.abc import Collection, Mapping
from typing import TypeVar

import numpy as np

from dcomp.checkpoints import layers, tensors, ties
from dcomp.checkpoints.layers import Aliases
from dcomp.checkpoints.tensors import Spec
from dcomp.errors import CheckpointError, UsageError
from dcomp.settings import PruneSettings, QuantizeSettings

ParameterNames = Mapping[str, str | None]
"""For each name in a network's state the first name of its parameter, several being tied; None for a buffer."""

T = TypeVar("T")


class Choice:
    """The tensors that settings choose. Tied weights are chosen, counted and changed once.

    Attributes:
        aliases: all names of each chosen tensor.
    """

    def __init__(
        self,
        checkpoint: Mapping[str, np.ndarray],
        kinds: Collection[layers.Kind],
        settings: PruneSettings | QuantizeSettings,
        noun: str,
        network: ParameterNames | None = None,
    ) -> None:
        """Choose among the tensors of these kinds; with a network, among its parameters.

        Raises:
            UsageError: there are none; the message calls them by `noun`.
        """
        parameters, self._buffers = _parameters_and_buffers(checkpoint, kinds, noun, network)
        self._settings = settings
        self._all_names = list(checkpoint)
        self.aliases = layers.chosen(parameters, settings.only, settings.skip, self._buffers)
        self._output: str | None = None

    @property
    def names(self) -> list[str]:
        """The first name of each tensor, in the checkpoint's order."""
        return [names[0] for names in self.aliases]

    def leave_out_output(self, checkpoint: Mapping[str, np.ndarray]) -> None:
        """Leave out the network's output layer, whose rows are classes, unless a person names it.

        Raises:
            UsageError: no other tensor is chosen.
        """
        output = layers.output_of(checkpoint)
        patterns = [*self._settings.only, *(rule.pattern.pattern for rule in self._settings.layer_rules)]
        hidden = [names for names in self.aliases if output not in names]
        if len(hidden) == len(self.aliases) or (
            output and any(layers.matches_any(pattern, [output]) for pattern in patterns)
        ):
            return
        if not hidden:
            raise UsageError(
                f"{output} is the output layer, whose rows are classes: to prune it, name it in only or layer"
            )
        self.aliases, self._output = hidden, output

    def values(self) -> dict[str, float]:
        """Return the values that rules give to single tensors, by first name.

        The rules of a plan cover the whole network, so some may be for tensors that are not chosen.

        Raises:
            UsageError: a rule matches no name.
        """
        planned = layers.apply_rules(self.aliases, self._settings.planned, self._all_names)
        return planned | layers.apply_rules(self.aliases, self._settings.layer_rules, self._buffers)

    def under_all_names(self, changed: Mapping[str, T]) -> dict[str, T]:
        """Return values that are given by first name, under all names of their tensors."""
        return {name: changed[names[0]] for names in self.aliases if names[0] in changed for name in names}

    def notes(self) -> list[str]:
        """Return notes about buffers that a person named, and about an output layer that was left out."""
        patterns = [*self._settings.only, *(rule.pattern.pattern for rule in self._settings.layer_rules)]
        named = [name for name in self._buffers if any(layers.matches_any(pattern, [name]) for pattern in patterns)]
        notes = [f"{name}: a buffer of the network does not train, and is not changed" for name in named]
        if self._output is not None:
            notes.append(f"{self._output}: the output layer, whose rows are classes, is not pruned unless it is named")
        return notes


def weights(checkpoint: Mapping[str, np.ndarray], network: ParameterNames) -> dict[str, np.ndarray]:
    """Return all weights of a network in its checkpoint's order, by first name.

    Raises:
        UsageError: there are none.
        CheckpointError: weights that are not finite.
    """
    parameters, _ = _parameters_and_buffers(checkpoint, layers.WEIGHTS, "weights", network)
    first = {names[0]: checkpoint[names[0]] for names in parameters}
    check_finite(first)
    return first


def check_finite(weights: Mapping[str, np.ndarray]) -> None:
    """Raise CheckpointError if a weight is infinite or NaN."""
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"{name} holds infinities or NaNs, which cannot be pruned or shared")


def _parameters_and_buffers(
    checkpoint: Mapping[str, np.ndarray], kinds: Collection[layers.Kind], noun: str, network: ParameterNames | None
) -> tuple[list[Aliases], list[str]]:
    """Return the parameters of these kinds, each by all of its names, and the names of buffers.

    Raises:
        UsageError: there are no parameters; the message calls them by `noun`.
    """
    names = layers.select(checkpoint, kinds)
    first_names = _first_equal(checkpoint, names) if network is None else network
    parameters: dict[str, list[str]] = {}
    buffers = []
    for name in names:
        first = first_names.get(name, name)
        if first is None:
            buffers.append(name)
        else:
            parameters.setdefault(first, []).append(name)
    if not parameters:
        raise UsageError(f"the checkpoint has no {' or '.join(kinds)} {noun}")
    return [tuple(aliases) for aliases in parameters.values()], buffers


def _first_equal(checkpoint: Mapping[str, np.ndarray], names: list[str]) -> dict[str, str]:
    """Return for each name the first name whose tensor has the same bits, dtype and shape: both count as tied.

    Tensors of a single value do not count as tied: all fresh scales are equal, and so are all fresh shifts.
    """
    candidates = tensors.subset(checkpoint, names)
    tied, specs = ties.find(candidates), tensors.specs_of(candidates)
    first_names: dict[tuple[str, Spec], str] = {}
    equal = {name: first_names.setdefault((tied.get(name, name), specs[name]), name) for name in names}
    return {name: name if name != first and _is_constant(candidates[name]) else first for name, first in equal.items()}


def _is_constant(array: np.ndarray) -> bool:
    flat = array.reshape(-1)
    return bool((flat == flat[0]).all())
