"""Training time -> sparsity. Time is counted in epochs and may be a fraction of one."""

from dataclasses import dataclass
from typing import Literal

ScheduleName = Literal["oneshot", "gradual", "iterative"]


@dataclass(frozen=True)
class Schedule:
    """When masks move, and to which sparsity.

    - `oneshot`    the final sparsity at `start`; the network retrains after it (the paper's way).
    - `gradual`    the cubic of Zhu and Gupta 2017 ("To prune, or not to prune", equation 1) from the
                   sparsity found at `start` to the final one at `until`, a step at each `every`.
    - `iterative`  the same steps, each keeping the same fraction of what was left: prune, retrain,
                   prune again (Han et al. 2015, section 3.4).

    Attributes:
        start, until: first and last move, in epochs; after `until` the masks hold.
        every: epochs between two moves.
    """

    name: ScheduleName
    start: float = 0.0
    until: float = 0.0
    every: float = 1.0

    def moves(self) -> list[float]:
        """The times at which masks move, ascending; the last one reaches the final sparsity."""
        if self.name == "oneshot" or self.until <= self.start:
            return [self.start]
        steps = max(1, round((self.until - self.start) / self.every))
        return [self.start + (self.until - self.start) * step / steps for step in range(steps + 1)]

    def sparsity(self, time: float, initial: float, final: float) -> float:
        """The sparsity that the move at `time` brings about.

        Args:
            time: in epochs, one of `moves()`.
            initial: sparsity before the first move.
            final: sparsity asked for.
        """
        last = self.moves()[-1]
        if time >= last:
            return final
        progress = (time - self.start) / (last - self.start)
        if self.name == "gradual":
            return final + (initial - final) * (1 - progress) ** 3
        if initial >= 1 or final >= 1:
            return initial + (final - initial) * progress  # nothing left to keep a fraction of
        return float(1 - (1 - initial) * ((1 - final) / (1 - initial)) ** progress)
