"""What one training of a stage does, beyond what the stage's settings say. It needs no torch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Event = tuple[float, Callable[[], None]]
"""A time in epochs, and what happens before the first step that begins no earlier."""


@dataclass(frozen=True)
class FitPlan:
    """One training of a network.

    Attributes:
        epochs: how many; None: as many as the settings have.
        events: what happens at which time; pruning moves its masks so.
        eligible_after: only epochs that end after this time are candidates for the best.
        start_counts: whether the network before the first epoch is a candidate too.
    """

    epochs: int | None = None
    events: Sequence[Event] = ()
    eligible_after: float = 0.0
    start_counts: bool = False


ALL_EPOCHS = FitPlan()
"""All epochs of the settings, without events; the best epoch is chosen among all of them."""


def first_step(time: float, steps_per_epoch: int) -> int:
    """Return the first step that begins no earlier than a time in epochs; 0.1 epochs of 30 steps are 3."""
    return math.ceil(time * steps_per_epoch - 1e-9)  # however the product rounds
