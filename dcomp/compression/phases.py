"""What sections `prune` and `quantize` do in a person's training loop, step by step.

A *section* is settings; its *phase* moves masks, or lets weights share values, at steps of the loop. Each phase begins
with the weights as they are at its first step.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from dcomp.checkpoints import layers
from dcomp.compression.choice import ParameterNames, check_finite
from dcomp.compression.pruning import Pruning
from dcomp.compression.sharing import Sharing
from dcomp.errors import CheckpointError, UsageError
from dcomp.learning.fit_plan import first_step
from dcomp.progress.observer import SILENT, Observer
from dcomp.pruning import budget
from dcomp.settings import PruneSettings, QuantizeSettings

Arrays = Mapping[str, np.ndarray]


class PhaseNetwork(Protocol):
    """The network of the loop, as phases see it."""

    @property
    def parameters(self) -> ParameterNames:
        """What the names in its state stand for."""

    def tensors(self) -> Arrays:
        """Return its state as it is now; a tensor is read when it is indexed."""

    def mask(self, masks: Arrays) -> None:
        """Hold weights at zero where their mask is False; earlier zeros stay zero."""

    def mask_dead(self) -> None:
        """Hold weights and biases that lie on no path from input to output at zero."""

    def share(self, shared: Arrays) -> None:
        """Give tensors these values, and hold them at these: the values train."""

    def squared_gradients(self, names: Sequence[str]) -> Arrays:
        """Return the mean squared gradients of tensors in the steps since this was last asked."""


class PrunePhase:
    """The phase of a section `prune`.

    Attributes:
        last_event: what the last of its events is, for messages.
        names: the tensors to prune.
        needs_gradients: whether squared gradients rank the weights.
        times: the moves of the masks.
    """

    last_event = "the last move of prune"

    def __init__(self, settings: PruneSettings, network: PhaseNetwork, observer: Observer) -> None:
        """Check that the section fits the network.

        Raises:
            UsageError, CheckpointError: as `Pruning`.
        """
        self._settings, self._observer = settings, observer
        first = Pruning(network.tensors(), settings, network.parameters)
        self.names, self.needs_gradients = first.names, first.needs_gradients
        self.times = settings.mask_schedule.moves()  # whatever the weights are, so that a resumed loop has the same
        self._pruning: Pruning | None = None
        self._done = 0

    def act(self, time: float, network: PhaseNetwork) -> None:
        """Move the masks; before the first move, hold the zeros that are there."""
        if not self._done:
            tensors = network.tensors()
            self._pruning = Pruning(tensors, self._settings, network.parameters)
            network.mask({name: tensors[name] != 0 for name in self.names})
        assert self._pruning is not None  # from the first move to the last
        squares = network.squared_gradients(self.names) if self.needs_gradients else None
        tensors = network.tensors()
        network.mask(self._pruning.masks_at(time, {name: tensors[name] for name in self.names}, squares))
        if self._pruning.removes_dead_units:
            network.mask_dead()
        self._done += 1
        if time == self.times[-1]:
            for note in self._pruning.notes(tensors):
                self._observer.note(note)
            self._pruning = None  # it keeps the weights as they were at first

    def words(self, network: PhaseNetwork) -> str:
        """Return what goes on, in a few words; empty before it begins."""
        if not self._done:
            return ""
        if self._done == len(self.times):
            return "pruned"
        has_rules = bool(self._settings.layer or self._settings.plan)  # so the sparsity is that of the other layers
        target = "" if self._settings.sparsity is None or has_rules else f" of {self._settings.sparsity:g}"
        return f"pruning {budget.sparsity_of(network.tensors(), self.names):.2f}{target}"

    def facts(self) -> Any:
        """Return what a resumed loop needs, as plain data."""
        return None if self._pruning is None else self._pruning.facts()

    def restore(self, facts: Any, done: int, network: PhaseNetwork) -> None:
        """Restore the facts, after so many moves.

        Raises:
            KeyError, TypeError, ValueError: they are none, and the masks are moving, or the other way round.
        """
        if (facts is not None) != (0 < done < len(self.times)):
            raise ValueError(f"facts of masks after {done} moves: {facts is not None}")
        pruning = None
        if facts is not None:
            pruning = Pruning(network.tensors(), self._settings, network.parameters, facts=facts)
        self._done, self._pruning = done, pruning

    def rounded(self, tensors: Arrays) -> dict[str, np.ndarray]:
        """Return the tensors that change in the end: none."""
        return {}


class SharePhase:
    """The phase of a section `quantize`; it has the attributes and methods of `PrunePhase`."""

    last_event = "quantize"
    needs_gradients = False

    def __init__(self, settings: QuantizeSettings, network: PhaseNetwork, observer: Observer) -> None:
        """Check that the section fits the network.

        Raises:
            UsageError, CheckpointError: as `Sharing`.
        """
        self._observer = observer
        self._sharing = Sharing(network.tensors(), settings, observer, network.parameters)
        self.names = [names[0] for names in self._sharing.bits]
        self.times = [float(settings.start)]
        self._done = 0

    def act(self, time: float, network: PhaseNetwork) -> None:
        """Share the weights."""
        tensors = network.tensors()
        check_finite({name: tensors[name] for name in self.names})
        shared = self._sharing.at_once(tensors, self._observer)
        network.share({name: shared[name] for name in self.names})
        self._done = 1

    def words(self, network: PhaseNetwork) -> str:
        """Return what goes on, in a few words; empty before it begins."""
        return "shared" if self._done else ""

    def facts(self) -> Any:
        """Return what a resumed loop needs, as plain data: nothing."""
        return None

    def restore(self, facts: Any, done: int, network: PhaseNetwork) -> None:
        """Restore whether weights are shared."""
        self._done = done

    def rounded(self, tensors: Arrays) -> dict[str, np.ndarray]:
        """Return the tensors that change when shared values are rounded to the type that the settings name."""
        return self._sharing.rounded(tensors) if self._done else {}


@dataclass(frozen=True)
class PhaseEvent:
    """A move of masks, or the start of sharing: its step, the first being 0, its time, and its phase."""

    step: int
    time: float
    phase: PrunePhase | SharePhase


class Phases:
    """All phases of a loop, and their events in order.

    Attributes:
        events: all of them.
        done: how many have happened.
        names_with_gradients: the tensors whose gradients phases need that have not ended.
    """

    def __init__(
        self,
        network: PhaseNetwork,
        prune: Sequence[PruneSettings],
        quantize: Sequence[QuantizeSettings],
        steps_per_epoch: int,
        observer: Observer = SILENT,
    ) -> None:
        """Check that all sections fit the network and each other.

        Raises:
            UsageError: a tensor would be pruned after it is shared; or as `Pruning` and `Sharing`.
            CheckpointError: weights that are not finite.
        """
        self._network = network
        prunes = [PrunePhase(settings, network, observer) for settings in prune]
        shares = [SharePhase(settings, network, observer) for settings in quantize]
        for share in shares:
            for pruned in prunes:
                _check_order(pruned, share)
        self._phases: list[PrunePhase | SharePhase] = [*prunes, *shares]
        events = [
            PhaseEvent(first_step(time, steps_per_epoch), time, phase) for phase in self._phases for time in phase.times
        ]
        self.events = sorted(events, key=lambda event: event.step)
        self._set_done(0)

    def run_due(self, step: int) -> None:
        """Run the events up to the one at `step` that have not happened."""
        while self.done < len(self.events) and self.events[self.done].step <= step:
            event = self.events[self.done]
            event.phase.act(event.time, self._network)
            self._set_done(self.done + 1)

    def names_pruned(self) -> set[str]:
        """Return the tensors that phases prune."""
        return {name for phase in self._phases if isinstance(phase, PrunePhase) for name in phase.names}

    @property
    def to_come(self) -> str:
        """What is still to come, in a line; empty after the last event."""
        last = {event.phase: event.time for event in self.events[self.done :]}
        return " and ".join(f"{phase.last_event} at {time:g}" for phase, time in last.items())

    @property
    def words(self) -> str:
        """What goes on in the phase that acted last, in a few words; empty before the first begins."""
        return self.events[self.done - 1].phase.words(self._network) if self.done else ""

    def rounded(self, tensors: Arrays) -> dict[str, np.ndarray]:
        """Return those of the network's tensors that change in the end, when shared values are rounded."""
        changed: dict[str, np.ndarray] = {}
        for phase in self._phases:
            changed |= phase.rounded({**tensors, **changed})
        return changed

    def facts(self) -> list[Any]:
        """Return what a resumed loop needs, as plain data; the network's weights hold the rest."""
        return [phase.facts() for phase in self._phases]

    def restore(self, facts: Sequence[Any], step: int) -> None:
        """Restore the facts of a loop in which `step` steps were done, with the same sections.

        Raises:
            CheckpointError: they do not fit.
        """
        done = sum(event.step < step for event in self.events)
        try:
            for phase, facts_of_phase in zip(self._phases, facts, strict=True):
                moves = sum(event.phase is phase for event in self.events[:done])
                phase.restore(facts_of_phase, moves, self._network)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"the state of the compressor does not fit these sections: {error}") from error
        self._set_done(done)

    def _set_done(self, count: int) -> None:
        self.done = count
        phases = {event.phase for event in self.events[count:] if event.phase.needs_gradients}
        self.names_with_gradients = {name for phase in phases for name in phase.names}


def _check_order(prune: PrunePhase, share: SharePhase) -> None:
    """Raise UsageError where masks of a tensor move after it is shared."""
    both = [name for name in prune.names if name in share.names]
    if both and prune.times[-1] > share.times[0]:
        raise UsageError(
            f"{layers.listed(both)}: prune ends at {prune.times[-1]:g}, after quantize has shared these weights at "
            f"{share.times[0]:g}: give quantize a start of {math.ceil(prune.times[-1])} or later"
        )
