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
    """The tensors that settings choose. Tied weights are chosen, counted and changed once."""

    def __init__(
        self,
        checkpoint: Mapping[str, np.ndarray],
        kinds: Collection[layers.Kind],
        settings: PruneSettings | QuantizeSettings,
        what: str,
        network: ParameterNames | None = None,
    ) -> None:
        """Choose among the tensors of these kinds; with a network, among its parameters.

        Raises:
            UsageError: there are none; `what` says in the message what is missing.
        """
        parameters, self._buffers = _parameters_and_buffers(checkpoint, kinds, what, network)
        self._settings = settings
        self._everything = list(checkpoint)
        self.aliases = layers.chosen(parameters, settings.only, settings.skip, self._buffers)
        self._output: str | None = None

    @property
    def names(self) -> list[str]:
        """The first name of each tensor, in the checkpoint's order."""
        return [names[0] for names in self.aliases]

    def leave_out_output(self, checkpoint: Mapping[str, np.ndarray]) -> None:
        """Leave the network's output layer out unless a person names it: its rows are classes.

        Raises:
            UsageError: no other tensor is chosen.
        """
        output = layers.output_of(checkpoint)
        patterns = [*self._settings.only, *(rule.pattern.pattern for rule in self._settings.layer_rules)]
        hidden = [names for names in self.aliases if output not in names]
        if len(hidden) == len(self.aliases) or (
            output and any(layers.finds(pattern, [output]) for pattern in patterns)
        ):
            return
        if not hidden:
            raise UsageError(
                f"{output} is the output layer, whose rows are classes: to prune it, name it in only or layer"
            )
        self.aliases, self._output = hidden, output

    def values(self) -> dict[str, float]:
        """Return the values that rules give to single tensors, by first name.

        A plan is for all of the network, and so may have rules for tensors that are not chosen.

        Raises:
            UsageError: a rule matches no name.
        """
        planned = layers.apply_rules(self.aliases, self._settings.planned, self._everything)
        return planned | layers.apply_rules(self.aliases, self._settings.layer_rules, self._buffers)

    def under_all_names(self, changed: Mapping[str, T]) -> dict[str, T]:
        """Return values by first name under all names."""
        return {name: changed[names[0]] for names in self.aliases if names[0] in changed for name in names}

    def notes(self) -> list[str]:
        """Return notes about tensors that a person named and that stay as they are, and about the output layer."""
        patterns = [*self._settings.only, *(rule.pattern.pattern for rule in self._settings.layer_rules)]
        named = [name for name in self._buffers if any(layers.finds(pattern, [name]) for pattern in patterns)]
        notes = [f"{name}: is a buffer of the network, which does not train, and is left alone" for name in named]
        if self._output is not None:
            notes.append(f"{self._output}: is the output layer, whose rows are classes, and is left alone unless named")
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
    checkpoint: Mapping[str, np.ndarray], kinds: Collection[layers.Kind], what: str, network: ParameterNames | None
) -> tuple[list[Aliases], list[str]]:
    """Return the parameters of these kinds, each by all of its names, and the names of buffers.

    Raises:
        UsageError: there are no parameters; `what` says in the message what is missing.
    """
    names = layers.select(checkpoint, kinds)
    firsts = _first_of_same(checkpoint, names) if network is None else network
    parameters: dict[str, list[str]] = {}
    buffers = []
    for name in names:
        first = firsts.get(name, name)
        if first is None:
            buffers.append(name)
        else:
            parameters.setdefault(first, []).append(name)
    if not parameters:
        raise UsageError(f"the checkpoint has no {' or '.join(kinds)} {what}")
    return [tuple(aliases) for aliases in parameters.values()], buffers


def _first_of_same(checkpoint: Mapping[str, np.ndarray], names: list[str]) -> dict[str, str]:
    """Return for each name the first whose tensor has the same bits, dtype and shape: these count as tied.

    Tensors of one value do not: fresh scales and shifts all look alike.
    """
    some = tensors.subset(checkpoint, names)
    tied, specs = ties.find(some), tensors.specs_of(some)
    first: dict[tuple[str, Spec], str] = {}
    same = {name: first.setdefault((tied.get(name, name), specs[name]), name) for name in names}
    return {name: name if name != other and _is_constant(some[name]) else other for name, other in same.items()}


def _is_constant(array: np.ndarray) -> bool:
    flat = array.reshape(-1)
    return bool((flat == flat[0]).all())
