"""Training in the stages that prune and share: masks move, and weights that are zero or shared stay so."""

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from dcomp.checkpoints import layers
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.checkpoints.tensors import subset
from dcomp.compression.pruning import Pruning
from dcomp.compression.sharing import Sharing
from dcomp.learning.fit_plan import Event, FitPlan, first_step
from dcomp.progress.observer import EpochRecord, Observer, SecondPhase
from dcomp.progress.resumption import StateFile

if TYPE_CHECKING:
    from dcomp.learning.session import Session


def prune(
    session: "Session", checkpoint: Checkpoint, pruning: Pruning, observer: Observer, state: StateFile | None = None
) -> list[EpochRecord]:
    """Train while masks move (paper, section 2); tensors that are not pruned here keep their zeros and shared values.

    Each move belongs to one step, the first that begins no earlier. So a restored training does only the moves that
    are left.
    """
    if was_shared := session.shared(pruning.names):
        observer.note(
            f"{', '.join(was_shared)}: weights were shared; retraining makes their values differ: quantize again"
        )
    session.mask({name: checkpoint.tensors[name] != 0 for name in pruning.names})
    _hold_compressed(session, checkpoint, observer)
    if pruning.removes_dead_units:
        session.mask_dead()
    plan = FitPlan(events=_events(session, pruning), eligible_after=max(pruning.moves, default=0.0))
    return session.fit(observer, plan, state)


def _events(session: "Session", pruning: Pruning) -> list[Event]:
    """Return the moves of the masks, each at the time of its step."""

    def move_masks(move: float) -> None:
        squares = session.squared_gradients(pruning.names, seed=round(1000 * move)) if pruning.needs_gradients else None
        masks = pruning.masks_at(move, {name: session.weights(name) for name in pruning.names}, squares)
        session.mask(masks)
        if pruning.removes_dead_units:
            session.mask_dead()

    events: list[Event] = []
    for move in pruning.moves:
        step = min(first_step(move, session.steps_per_epoch), session.last_step)
        events.append((step / session.steps_per_epoch, partial(move_masks, move)))
    return events


def share(
    session: "Session", checkpoint: Checkpoint, sharing: Sharing, observer: Observer, state: StateFile | None = None
) -> tuple[Checkpoint, list[EpochRecord]]:
    """Train until the epoch at which weights are shared, share them, and train the shared values (paper, section 3.3).

    Returns:
        the checkpoint, and the epochs of both trainings, numbered from first to last.
    """
    first_epochs: list[EpochRecord] = []
    if sharing.start:
        kept_state = replace(state, every=0.0) if state is not None else None  # its end, until the second is done
        first_epochs = fit_held(session, checkpoint, observer, FitPlan(sharing.start, start_counts=True), kept_state)
        checkpoint = checkpoint.replaced(session.tensors(), session.metadata())
        state = state.second(len(first_epochs)) if state is not None else None
    unshared = subset(checkpoint.tensors, layers.select(checkpoint.tensors, layers.WEIGHTS))
    checkpoint = checkpoint.replaced(sharing.at_once(checkpoint.tensors, observer))
    if not sharing.epochs_after:
        return checkpoint, first_epochs
    watcher = SecondPhase(observer, first_epochs, unshared)
    session.load(checkpoint)
    session.share(sharing.names)
    second_epochs = fit_held(session, checkpoint, watcher, FitPlan(sharing.epochs_after, start_counts=True), state)
    checkpoint = checkpoint.replaced(session.tensors(), session.metadata())
    return checkpoint, [*first_epochs, *map(watcher.renumbered, second_epochs)]


def fit_held(
    session: "Session", checkpoint: Checkpoint, observer: Observer, plan: FitPlan, state: StateFile | None = None
) -> list[EpochRecord]:
    """Train while zeros stay zero and shared values shared."""
    _hold_compressed(session, checkpoint, observer)
    return session.fit(observer, plan, state)


def finetune(
    session: "Session",
    checkpoint: Checkpoint,
    parameters: Collection[str],
    observer: Observer,
    state: StateFile | None = None,
    *,
    choose_after: int = 0,
) -> list[EpochRecord]:
    """Train while zeros, also vectors of zeros, stay zero and shared values shared.

    The best epoch is one after `choose_after`; if that is 0, the network before the first epoch may be the best.
    Otherwise vectors of zeros train, because the shifts of a fresh network are zeros.
    """
    vectors = {name: checkpoint.tensors[name] for name in layers.select(checkpoint.tensors, ["bias"])}
    session.mask({name: array != 0 for name, array in vectors.items() if name in parameters and not array.any()})
    plan = FitPlan(eligible_after=choose_after, start_counts=choose_after == 0)
    return fit_held(session, checkpoint, observer, plan, state)


def _hold_compressed(session: "Session", checkpoint: Checkpoint, observer: Observer) -> None:
    """Hold all tensors that are pruned or shared; note those where that is unclear."""
    session.held.hold(layers.select(checkpoint.tensors, layers.KINDS))
    if unclear := session.held.unclear(layers.select(checkpoint.tensors, layers.WEIGHTS)):
        observer.note(
            f"{layers.listed(unclear)}: more than 256 values, of 16 bits each, do not count as shared: "
            "each weight trains by itself"
        )
