"""Networks that retrain while they are pruned, or while what is pruned and shared holds."""

import math
from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING

from dcomp.checkpoints import layers
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.compression.pruning import Pruning
from dcomp.progress.observer import EpochRecord, Observer
from dcomp.progress.resumption import StateFile

if TYPE_CHECKING:
    from dcomp.learning.session import Session


def prune(
    session: "Session", checkpoint: Checkpoint, pruning: Pruning, observer: Observer, state: StateFile | None = None
) -> list[EpochRecord]:
    """Train while masks move (paper, section 2); what else is pruned or shared stays so.

    Each move belongs to one step, the first that begins no earlier, so a session that goes on in the middle of its
    training does the moves that are left, and no other.
    """
    if again := session.shared(pruning.names):
        observer.note(f"{', '.join(again)}: weights were shared; retraining gives each its own value, quantize again")
    session.mask({name: checkpoint.tensors[name] != 0 for name in pruning.names})
    hold_all(session, checkpoint, layers.KINDS, observer)
    if pruning.without_dead:
        session.mask_dead()

    def move_masks(move: float) -> None:
        squares = session.squared_gradients(pruning.names, seed=round(1000 * move)) if pruning.by_gradients else None
        masks = pruning.masks_at(move, {name: session.weights(name) for name in pruning.names}, squares)
        session.mask(masks)
        if pruning.without_dead:
            session.mask_dead()

    events = []
    for move in pruning.moves:
        step = math.ceil(move * session.steps_per_epoch - 1e-9)  # 0.1 epochs of 30 steps are 3, however they round
        events.append((min(step, session.last_step) / session.steps_per_epoch, partial(move_masks, move)))
    return session.fit(observer, events=events, eligible_after=max(pruning.moves, default=0.0), state=state)


def hold(
    session: "Session", checkpoint: Checkpoint, observer: Observer, state: StateFile | None = None
) -> list[EpochRecord]:
    """Train while all that is pruned or shared stays so; the network as it comes is a candidate for the best."""
    hold_all(session, checkpoint, layers.KINDS, observer)
    return session.fit(observer, start_counts=True, state=state)


def finetune(
    session: "Session",
    checkpoint: Checkpoint,
    parameters: Collection[str],
    observer: Observer,
    state: StateFile | None = None,
) -> list[EpochRecord]:
    """Train while all that is pruned or shared stays so; vectors that are zero as a whole count as pruned too.

    `hold` lets such vectors train, because it may be given a network whose shifts are still as they were made.
    """
    vectors = {name: checkpoint.tensors[name] for name in layers.select(checkpoint.tensors, ["bias"])}
    session.mask({name: array != 0 for name, array in vectors.items() if name in parameters and not array.any()})
    return hold(session, checkpoint, observer, state)


def hold_all(
    session: "Session", checkpoint: Checkpoint, kinds: Collection[layers.Kind], observer: Observer
) -> list[str]:
    """Hold what is pruned or shared in the tensors of these kinds; their names. What cannot be told is said."""
    held = session.hold(layers.select(checkpoint.tensors, kinds))
    if free := session.unclear(layers.select(checkpoint.tensors, layers.WEIGHTS)):
        which = layers.listed(free)
        observer.note(f"{which}: more than 256 values, of 16 bits each, are not taken for shared: weights train singly")
    return held
