"""Training time -> sparsity. Time is counted in epochs and may be a fraction of one."""

from dataclasses import dataclass
from typing import Literal

ScheduleName = Literal["oneshot", "gradual", "iterative", "uniform"]


@dataclass(frozen=True)
class Schedule:
    """When masks move, and to which sparsity.

    - `oneshot`    the final sparsity at `start`; the network retrains after it (the paper's way).
    - `gradual`    the cubic of Zhu and Gupta 2017 ("To prune, or not to prune", equation 1) from the
                   sparsity at `start` to the final one at `until`, a step at each `every`.
    - `iterative`  the same steps, each keeping the same fraction of what was left: prune, retrain,
                   prune again (Han et al. 2015, section 3.4).
    - `uniform`    the same steps, each setting the same number of weights to zero.

    Attributes:
        start, until: first and last move, in epochs; after `until` the masks stay fixed.
        every: epochs between two moves.
        at: the moves, ascending, in place of those three. The first of them prunes; the move at
            `start` keeps the sparsity that the weights have.
    """

    name: ScheduleName
    start: float = 0.0
    until: float = 0.0
    every: float = 1.0
    at: tuple[float, ...] = ()

    def moves(self) -> list[float]:
        """Return the times at which masks move, ascending; the last one reaches the final sparsity."""
        if self.at:
            return list(self.at)
        if self.name == "oneshot" or self.until <= self.start:
            return [self.start]
        steps = max(1, round((self.until - self.start) / self.every))
        return [self.start + (self.until - self.start) * step / steps for step in range(steps + 1)]

    def sparsity(self, time: float, initial: float, final: float) -> float:
        """Return the sparsity after the move at `time`.

        Args:
            time: in epochs, one of `moves()`.
            initial: sparsity before the first move.
            final: sparsity after the last move.
        """
        progress = self._progress(time)
        if progress >= 1:
            return final
        if self.name == "gradual":
            return final + (initial - final) * (1 - progress) ** 3
        if self.name == "uniform" or initial >= 1 or final >= 1:  # at 1 nothing is left to keep a fraction of
            return initial + (final - initial) * progress
        return float(1 - (1 - initial) * ((1 - final) / (1 - initial)) ** progress)

    def _progress(self, time: float) -> float:
        """Return the progress after the move at `time`, from 0 to 1."""
        if self.at:
            return (self.at.index(time) + 1) / len(self.at)
        last = self.moves()[-1]
        return 1.0 if time >= last else (time - self.start) / (last - self.start)
