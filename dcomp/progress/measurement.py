"""What is measured of a network: metrics by name, and the one that judges which network is better.

Classification measures `top1_error` and `top5_error`, in percent, and `loss`, in nats. Other tasks have metrics of
their own beside `loss`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from dcomp.errors import CheckpointError

LOSS = "loss"
"""The metric that every task has."""

PERCENTAGES = {"top1_error": "top-1 error", "top5_error": "top-5 error"}
"""Metrics in percent, and their titles; all others have no unit, and their names as titles."""

METRICS = (*PERCENTAGES, LOSS)
"""The metrics of classification."""

JUDGE_KEYS = ("judge", "lower_is_better")
"""Keys of plain data that describe a judge; for the top-1 error, which is the usual judge, they are left out."""

RESERVED = (*JUDGE_KEYS, "count", "error")
"""Names that no metric has, because plain data have them already."""

DECIMALS = 6
"""Decimals of rounded metrics; further ones differ between machines."""


@dataclass(frozen=True)
class Judge:
    """The metric that says which of two networks is better.

    Attributes:
        metric: its name.
        lower_is_better: whether a lower value is better.
    """

    metric: str
    lower_is_better: bool = True

    @property
    def title(self) -> str:
        """Return the metric's name for people."""
        return title_of(self.metric)

    @property
    def short_title(self) -> str:
        """Return the metric's name for a line that has little room."""
        return "error" if self == TOP1_ERROR else self.title

    @property
    def heading(self) -> str:
        """Return the metric's name and unit, as the heading of a column."""
        return f"{self.title} %" if self.metric in PERCENTAGES else self.title

    @property
    def short_heading(self) -> str:
        """Return the metric's name and unit, as the heading of a narrow column."""
        return "error %" if self == TOP1_ERROR else self.heading

    @property
    def decimals(self) -> int:
        """Return how many decimals of the metric are shown."""
        return 2 if self.metric in PERCENTAGES else 4

    def figure(self, value: float) -> str:
        """Return a value of the metric without its unit, as a cell of a table."""
        return f"{value:.{self.decimals}f}"

    def text(self, value: float) -> str:
        """Return a value of the metric with its unit."""
        return f"{self.figure(value)} %" if self.metric in PERCENTAGES else self.figure(value)

    def cost(self, value: float) -> float:
        """Return a number that is lower for a better network; the cost of a cost is the value."""
        return value if self.lower_is_better else 0.0 - value

    def worsening(self, value: float, reference: float) -> float:
        """Return by how much a value is worse than another, rounded; negative if it is better."""
        return round(self.cost(value) - self.cost(reference), DECIMALS)

    def as_dict(self) -> dict[str, Any]:
        """Return the judge as plain data; nothing for the top-1 error."""
        return {} if self == TOP1_ERROR else {"judge": self.metric, "lower_is_better": self.lower_is_better}


TOP1_ERROR = Judge("top1_error")
"""The judge of classification."""


@dataclass(frozen=True)
class Measurement:
    """What an evaluation measured.

    Attributes:
        metrics: means over the examples, by name; `loss` is among them.
        judge: one of the metrics.
        count: of the examples; None where it was not recorded.
    """

    metrics: Mapping[str, float]
    judge: Judge = TOP1_ERROR
    count: int | None = None

    @property
    def judged(self) -> float:
        """Return the value of the metric that judges."""
        return self.metrics[self.judge.metric]

    @property
    def loss(self) -> float:
        """Return the mean loss."""
        return self.metrics[LOSS]

    @property
    def cost(self) -> float:
        """Return the cost of the judged value: the lower, the better."""
        return self.judge.cost(self.judged)

    @property
    def rank(self) -> tuple[float, float]:
        """Return the cost and the loss, by which networks are compared: the lower, the better; NaN is the worst."""
        return _worst_if_nan(self.cost), _worst_if_nan(self.loss)

    @property
    def accuracy(self) -> float | None:
        """Return the part of right answers, from 0 to 1; None for other tasks than classification."""
        return 1 - self.judged / 100 if self.judge == TOP1_ERROR else None

    def rounded(self) -> Self:
        """Return the metrics rounded to the decimals that are equal on all machines."""
        return replace(self, metrics={name: round(value, DECIMALS) for name, value in self.metrics.items()})

    def check_finite(self) -> None:
        """Raise CheckpointError if the network's answers are not finite."""
        for name, value in ((LOSS, self.loss), (self.judge.title, self.judged)):
            if not math.isfinite(value):
                raise CheckpointError(
                    f"the network's {name} is {value}: its weights contain or produce infinities or NaNs"
                )

    def as_dict(self) -> dict[str, Any]:
        """Return the metrics, the count where it is recorded, and the judge, as plain data."""
        count = {} if self.count is None else {"count": self.count}
        return {**self.metrics, **count, **self.judge.as_dict()}

    @classmethod
    def of(cls, recorded: Any) -> Self:
        """Return what `as_dict` returned, without a count.

        Raises:
            ValueError: it is no measurement.
        """
        if not isinstance(recorded, Mapping):
            raise ValueError("a measurement is an object of metrics")
        judge = Judge(recorded.get("judge", TOP1_ERROR.metric), recorded.get("lower_is_better", True))
        metrics = {name: value for name, value in recorded.items() if name not in JUDGE_KEYS}
        if not isinstance(judge.metric, str) or not isinstance(judge.lower_is_better, bool):
            raise ValueError("a judge is the name of a metric, and whether lower is better")
        if not {judge.metric, LOSS} <= metrics.keys():
            raise ValueError("a measurement has a loss, and a judge among its metrics")
        for name, value in metrics.items():
            _check_range(name, value, positive=judge == TOP1_ERROR)
        return cls(metrics, judge)


def title_of(metric: str) -> str:
    """Return the name of a metric for people."""
    return PERCENTAGES.get(metric, metric)


def _worst_if_nan(cost: float) -> float:
    return math.inf if math.isnan(cost) else cost


def _check_range(name: str, value: object, *, positive: bool) -> None:
    """Raise ValueError unless a metric has a value that it can have."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{name} is no finite number")
    if (positive and value < 0) or (name in PERCENTAGES and value > 100):
        raise ValueError(f"{name} is {value}")
