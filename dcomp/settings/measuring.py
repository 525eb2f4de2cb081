"""Settings of commands that measure a network: eval and sensitivity."""

from collections.abc import Iterable
from typing import Self

from pydantic import Field, model_validator

from dcomp.progress.measurement import TOP1_ERROR
from dcomp.settings.base import RUNTIME_SETTINGS
from dcomp.settings.bounds import Bound, Bounds, check_known, parse
from dcomp.settings.fields import MAX_SEED, BitCounts, Precision, Sparsities
from dcomp.settings.learning import DataSettings
from dcomp.settings.panels import MACHINE, shown

BOUND = "METRIC=VALUE"


class EvalSettings(DataSettings):
    """`dcomp eval`."""

    precision: Precision = Field("fp32", description="Type to compute in.", json_schema_extra=shown(MACHINE, "NAME"))
    max_error: float | None = Field(None, ge=0, le=100, description="Exit 3 if the top-1 error in percent is above.")
    max: Bounds = Field(
        (), description="Exit 3 if a metric of the task is above; repeatable.", json_schema_extra=shown(metavar=BOUND)
    )
    min: Bounds = Field(
        (), description="Exit 3 if a metric of the task is below; repeatable.", json_schema_extra=shown(metavar=BOUND)
    )

    @property
    def bounds(self) -> list[Bound]:
        """Return all bounds of metrics."""
        bounds = [Bound(*parse(text), True, f"max {text} (--max)") for text in self.max]
        bounds += [Bound(*parse(text), False, f"min {text} (--min)") for text in self.min]
        if self.max_error is not None:
            bounds.insert(0, Bound(TOP1_ERROR.metric, self.max_error, True, "max_error (--max-error)"))
        return bounds

    def check_bounded(self, metrics: Iterable[str]) -> None:
        """Raise UsageError if a metric with a bound is not among the metrics of the task."""
        check_known(self.bounds, metrics)

    @property
    def examples(self) -> str:
        """Return the data set on which metrics are measured, and the settings that may change them."""
        unchanged = RUNTIME_SETTINGS | {"data", "max_error", "max", "min"}
        changes = self.model_dump(mode="json", exclude_defaults=True, exclude=unchanged)
        return " ".join([str(self.data), *(f"{key}={value}" for key, value in changes.items())])


class SensitivitySettings(DataSettings):
    """`dcomp sensitivity`."""

    prune: Sparsities = Field(
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
        description="Sparsities to try, or none.",
        json_schema_extra=shown(metavar="X,..."),
    )
    bits: BitCounts = Field(
        (1, 2, 3, 4, 5, 6, 7, 8),
        description="Bits of shared values to try, or none.",
        json_schema_extra=shown(metavar="N,..."),
    )
    limit: int | None = Field(None, ge=1, description="Measure on the first N of the validation examples only.")
    val_split: float = Field(0.08, gt=0, lt=1, description="Part of the training data to measure on.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed for drawing that part.")
    max_drop: float | None = Field(
        None,
        ge=0,
        description="By how much the plan may worsen the metric that judges; percentage points of top-1 accuracy.",
    )

    @model_validator(mode="after")
    def _some_amount(self) -> Self:
        if not (self.prune or self.bits):
            raise ValueError("nothing to try: give sparsities (--prune) or bits (--bits)")
        return self
