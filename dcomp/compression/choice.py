"""The tensors of a checkpoint that a stage is to change, and what is asked for single ones."""

from collections.abc import Collection, Mapping
from typing import TypeVar

import numpy as np

from dcomp.checkpoints import layers, tensors, ties
from dcomp.checkpoints.layers import Aliases
from dcomp.checkpoints.tensors import Spec
from dcomp.errors import CheckpointError, UsageError
from dcomp.settings import PruneSettings, QuantizeSettings

ParameterNames = Mapping[str, str | None]
"""What a network says of each name in its state: the first name of the parameter that it is, or None for a buffer."""

T = TypeVar("T")


class Choice:
    """The tensors that settings choose. Tied weights are chosen, counted and changed once, whatever their names."""

    def __init__(
        self,
        checkpoint: Mapping[str, np.ndarray],
        kinds: Collection[layers.Kind],
        settings: PruneSettings | QuantizeSettings,
        what: str,
        network: ParameterNames | None = None,
    ) -> None:
        """Choose among the tensors of these kinds; where the network is at hand, among its parameters.

        Raises:
            UsageError: there are none; `what` says what for.
        """
        found, self._buffers = _told_apart(checkpoint, kinds, what, network)
        self._settings = settings
        self._everything = list(checkpoint)
        self.aliases = layers.chosen(found, settings.only, settings.skip, self._buffers)
        self._output: str | None = None

    @property
    def names(self) -> list[str]:
        """The first name of each tensor, in the checkpoint's order."""
        return [names[0] for names in self.aliases]

    def leave_output_out(self, checkpoint: Mapping[str, np.ndarray]) -> None:
        """Choose the network's output layer only if a person names it: its rows are classes.

        Raises:
            UsageError: nothing else is chosen.
        """
        output = layers.output_of(checkpoint)
        patterns = [*self._settings.only, *(rule.pattern.pattern for rule in self._settings.layer_rules)]
        others = [names for names in self.aliases if output not in names]
        if len(others) == len(self.aliases) or (
            output and any(layers.finds(pattern, [output]) for pattern in patterns)
        ):
            return
        if not others:
            raise UsageError(
                f"{output} is the output layer, whose rows are classes: to prune it, name it in only or layer"
            )
        self.aliases, self._output = others, output

    def values(self) -> dict[str, float]:
        """What rules ask for single tensors, by first name.

        A plan speaks of the whole network, and so may have rules for tensors that are not chosen.

        Raises:
            UsageError: a rule that finds nothing.
        """
        planned = layers.apply_rules(self.aliases, self._settings.planned, self._everything)
        return planned | layers.apply_rules(self.aliases, self._settings.layer_rules, self._buffers)

    def under_all_names(self, changed: Mapping[str, T]) -> dict[str, T]:
        """What is given by first name, by all names."""
        return {name: changed[names[0]] for names in self.aliases if names[0] in changed for name in names}

    def notes(self) -> list[str]:
        """What a person named that is left alone nevertheless."""
        patterns = [*self._settings.only, *(rule.pattern.pattern for rule in self._settings.layer_rules)]
        named = [name for name in self._buffers if any(layers.finds(pattern, [name]) for pattern in patterns)]
        told = [f"{name}: is a buffer of the network, which does not train, and is left alone" for name in named]
        if self._output is not None:
            told.append(f"{self._output}: is the output layer, whose rows are classes, and is left alone unless named")
        return told


def weights(checkpoint: Mapping[str, np.ndarray], network: ParameterNames) -> dict[str, np.ndarray]:
    """All weights of a network in its checkpoint's order, by first name.

    Raises:
        UsageError: there are none.
        CheckpointError: weights that are not finite.
    """
    found, _ = _told_apart(checkpoint, layers.WEIGHTS, "weights", network)
    first = {names[0]: checkpoint[names[0]] for names in found}
    check_finite(first)
    return first


def check_finite(weights: Mapping[str, np.ndarray]) -> None:
    """Raise CheckpointError if a weight is infinite or no number."""
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"{name} holds infinities or NaNs, which cannot be pruned or shared")


def _told_apart(
    checkpoint: Mapping[str, np.ndarray], kinds: Collection[layers.Kind], what: str, network: ParameterNames | None
) -> tuple[list[Aliases], list[str]]:
    """The tensors of these kinds, and the names of those that are buffers of the network.

    Raises:
        UsageError: there are none; `what` says what for.
    """
    names = layers.select(checkpoint, kinds)
    firsts = _first_of_same(checkpoint, names) if network is None else network
    found: dict[str, list[str]] = {}
    buffers = []
    for name in names:
        first = firsts.get(name, name)
        if first is None:
            buffers.append(name)
        else:
            found.setdefault(first, []).append(name)
    if not found:
        raise UsageError(f"the checkpoint has no {' or '.join(kinds)} {what}")
    return [tuple(aliases) for aliases in found.values()], buffers


def _first_of_same(checkpoint: Mapping[str, np.ndarray], names: list[str]) -> dict[str, str]:
    """For each name the first whose tensor has the same bits, dtype and shape: without a network, these are tied.

    Tensors of one value are not: fresh scales and shifts all look alike.
    """
    some = tensors.subset(checkpoint, names)
    tied, specs = ties.find(some), tensors.specs_of(some)
    first: dict[tuple[str, Spec], str] = {}
    same = {name: first.setdefault((tied.get(name, name), specs[name]), name) for name in names}
    return {name: name if name != other and _is_constant(some[name]) else other for name, other in same.items()}


def _is_constant(array: np.ndarray) -> bool:
    flat = array.reshape(-1)
    return bool((flat == flat[0]).all())
