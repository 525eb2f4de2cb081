"""Bounds of metrics, which make `eval` a gate: `--max METRIC=VALUE`, `--min METRIC=VALUE` and `--max-error`."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from dcomp.errors import UsageError
from dcomp.progress.measurement import PERCENTAGES, Judge, Measurement


@dataclass(frozen=True)
class Bound:
    """A bound of a metric.

    Attributes:
        metric: its name.
        limit: its highest value, or its lowest.
        is_highest: which of both.
        option: as a person gave it, for messages.
    """

    metric: str
    limit: float
    is_highest: bool
    option: str

    def violation(self, measurement: Measurement) -> str | None:
        """Return what is wrong with a measurement, in a few words; None if it keeps the bound."""
        value, shown = measurement.metrics[self.metric], Judge(self.metric)
        limit = f"{self.limit:g} %" if self.metric in PERCENTAGES else f"{self.limit:g}"
        if self.is_highest and value > self.limit:
            return f"{shown.title} {shown.text(value)} is above the {limit} allowed"
        if not self.is_highest and value < self.limit:
            return f"{shown.title} {shown.text(value)} is below the {limit} required"
        return None


def check_known(bounds: Iterable[Bound], metrics: Iterable[str]) -> None:
    """Raise UsageError for bounds of metrics that a task does not have."""
    names = list(metrics)
    for bound in bounds:
        if bound.metric not in names:
            raise UsageError(f"{bound.option}: there is no metric {bound.metric}; there are {', '.join(names)}")


def parse(text: str) -> tuple[str, float]:
    """Return the metric and the limit of `METRIC=VALUE`.

    Raises:
        ValueError: it is not of this form.
    """
    metric, _, limit = text.partition("=")
    try:
        number = float(limit)
    except ValueError:
        number = math.nan
    if not metric or not math.isfinite(number):
        raise ValueError(f"{text!r} should be METRIC=VALUE, as in top1_error=1.5")
    return metric.strip(), number


def _as_texts(value: Any) -> Any:
    """Return a mapping or a single text as texts."""
    if isinstance(value, Mapping):
        return tuple(f"{metric}={limit}" for metric, limit in value.items())
    return (value,) if isinstance(value, str) else value


def _all_parse(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        parse(text)
    return texts


Bounds = Annotated[tuple[str, ...], BeforeValidator(_as_texts), AfterValidator(_all_parse)]
"""`METRIC=VALUE`, any number of them; a recipe may also have a mapping."""
