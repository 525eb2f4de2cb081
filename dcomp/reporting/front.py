"""The Pareto front of a sweep: the points that no other point beats in bytes and in error."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

POINT_FIGURES = ("bytes", "ratio", "top1_error", "top5_error", "sparsity", "seconds")


@dataclass(frozen=True)
class PointResult:
    """The result of one point of a sweep.

    Attributes:
        values: settings that tell the points of the sweep apart, as text, by key.
        bytes: size of the container.
        ratio: bytes of the dense tensors over `bytes`.
        top1_error, top5_error: errors on the test examples in percent.
        sparsity: fraction of zeros in the weights.
        seconds: time of its stages, those that it shares with other points included.
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
    """A result, and whether it is on the front: no other is both no larger and no worse, and better in one."""

    result: PointResult
    on_front: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the values, the figures and `on_front` as plain data."""
        figures = {name: getattr(self.result, name) for name in POINT_FIGURES}
        return {**self.result.values, **figures, "on_front": self.on_front}


def rank_points(results: Iterable[PointResult]) -> list[RankedPoint]:
    """Return the results by bytes, the smallest first, and mark those on the front."""
    points: list[RankedPoint] = []
    last_on_front: tuple[int, float] | None = None
    for result in sorted(results, key=lambda result: (result.bytes, result.top1_error)):
        place = (result.bytes, result.top1_error)
        on_front = last_on_front is None or place == last_on_front or result.top1_error < last_on_front[1]
        points.append(RankedPoint(result, on_front))
        last_on_front = place if on_front else last_on_front
    return points
