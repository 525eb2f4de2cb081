"""The Pareto front of a sweep: the points that no other point beats in bytes and in error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from dcomp.progress.measurement import LOSS, Measurement

FIRST_FIGURES = ("bytes", "ratio")
"""Names of the first figures of each point; its metrics follow."""


@dataclass(frozen=True)
class PointResult:
    """The result of one point of a sweep.

    Attributes:
        values: settings that tell the points of the sweep apart, as text, by key.
        bytes: size of the container.
        ratio: bytes of the dense tensors over `bytes`.
        measured: metrics on the test examples.
        sparsity: fraction of zeros in the weights.
        seconds: time of its stages, those that it shares with other points included.
    """

    values: Mapping[str, str]
    bytes: int
    ratio: float
    measured: Measurement
    sparsity: float
    seconds: float


@dataclass(frozen=True)
class RankedPoint:
    """A result, and whether it is on the front: no other is both no larger and no worse, and better in one."""

    result: PointResult
    on_front: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the values, the figures and `on_front` as plain data."""
        result = self.result
        judge = result.measured.judge
        hidden = () if judge.metric == LOSS else (LOSS,)
        metrics = {name: value for name, value in result.measured.metrics.items() if name not in hidden}
        figures = {"bytes": result.bytes, "ratio": result.ratio, **metrics}
        last = {"sparsity": result.sparsity, "seconds": result.seconds, "on_front": self.on_front}
        return {**result.values, **figures, **last}


def rank_points(results: Sequence[PointResult]) -> list[RankedPoint]:
    """Return the results by bytes, the smallest first, and mark those on the front."""
    points: list[RankedPoint] = []
    last_on_front: tuple[int, float] | None = None
    places = [(result.bytes, result.measured.rank[0]) for result in results]
    for place, result in sorted(zip(places, results, strict=True), key=itemgetter(0)):
        on_front = last_on_front is None or place == last_on_front or place[1] < last_on_front[1]
        points.append(RankedPoint(result, on_front))
        last_on_front = place if on_front else last_on_front
    return points
