"""What the points of a sweep came to, and the front of those that no other point beats in bytes and error."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

POINT_FIGURES = ("bytes", "ratio", "top1_error", "top5_error", "sparsity", "seconds")


@dataclass(frozen=True)
class PointResult:
    """What a point came to.

    Attributes:
        values: what its recipe differs in from the other points', as text, by key.
        bytes: of its container.
        ratio: of the dense tensors' bytes to those.
        top1_error, top5_error: on the test examples in percent.
        sparsity: the fraction of zeros in the weights.
        seconds: that its stages took, those included that it has in common with other points.
    """

    values: Mapping[str, str]
    bytes: int
    ratio: float
    top1_error: float
    top5_error: float
    sparsity: float
    seconds: float


@dataclass(frozen=True)
class RankedPoint:
    """An outcome, and whether it is on the front: no other is both no larger and no worse, and better in one."""

    result: PointResult
    on_front: bool

    def as_dict(self) -> dict[str, Any]:
        """Both as plain data, the values among the figures."""
        figures = {name: getattr(self.result, name) for name in POINT_FIGURES}
        return {**self.result.values, **figures, "on_front": self.on_front}


def rank_points(outcomes: Iterable[PointResult]) -> list[RankedPoint]:
    """Outcomes by bytes, the smallest first."""
    found: list[RankedPoint] = []
    best: tuple[int, float] | None = None
    for outcome in sorted(outcomes, key=lambda outcome: (outcome.bytes, outcome.top1_error)):
        own = (outcome.bytes, outcome.top1_error)
        on_front = best is None or own == best or own[1] < best[1]
        found.append(RankedPoint(outcome, on_front))
        best = own if on_front else best
    return found
