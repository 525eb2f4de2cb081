"""Networks that retrain while they are pruned, or while what is pruned and shared holds."""

import math
from collections import defaultdict
from typing import TYPE_CHECKING

from dcomp import layers
from dcomp.checkpoint import Checkpoint
from dcomp.compression.pruning import Pruning
from dcomp.observer import EpochRecord, Observer

if TYPE_CHECKING:
    from dcomp.learning.session import Session


def prune(session: "Session", checkpoint: Checkpoint, pruning: Pruning, observer: Observer) -> list[EpochRecord]:
    """Train while masks move (paper, section 2); what else is pruned or shared stays so.

    Each move belongs to one step, the first that begins no earlier, so a session that goes on in the middle of its
    training does the moves that are left, and no other.
    """
    if again := session.shared(pruning.names):
        observer.note(f"{', '.join(again)}: weights were shared; retraining gives each its own value, quantize again")
    session.mask({name: checkpoint.tensors[name] != 0 for name in pruning.names})
    session.hold(layers.select(checkpoint.tensors, layers.KINDS))
    moves = defaultdict(list)
    for move in pruning.moves:
        step = math.ceil(move * session.steps_per_epoch - 1e-9)  # 0.1 epochs of 30 steps are 3, however they round
        moves[min(step, session.last_step)].append(move)

    def move_masks(time: float) -> None:
        for move in moves.get(round(time * session.steps_per_epoch), ()):
            session.mask(pruning.masks_at(move, {name: session.weights(name) for name in pruning.names}))

    return session.fit(observer, before_step=move_masks, eligible_after=max(pruning.moves, default=0.0))


def hold(session: "Session", checkpoint: Checkpoint, observer: Observer) -> list[EpochRecord]:
    """Train while all that is pruned or shared stays so; the network as it comes is a candidate for the best."""
    session.hold(layers.select(checkpoint.tensors, layers.KINDS))
    return session.fit(observer, start_counts=True)
