"""The results of a run: a row for each stage, and the sizes of its container."""

from dataclasses import dataclass
from typing import Any

from dcomp.progress.measurement import METRICS, Measurement
from dcomp.reporting.sizes import SizeReport

NOT_MEASURED = dict.fromkeys(METRICS)
"""The metrics of a recipe without a section eval."""


@dataclass(frozen=True)
class StageResult:
    """The results of a stage.

    Attributes:
        stage: its name.
        file: the name of the file that it wrote.
        bytes: that file's size.
        sparsity: the fraction of zeros in the weights of layers.
        kept_percent: the elements of all tensors that are not zero, in percent, as in a report.
        measured: metrics on the test examples; None where the recipe has no section eval.
        seconds: how long the stage took.
    """

    stage: str
    file: str
    bytes: int
    sparsity: float
    kept_percent: float
    measured: Measurement | None
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the results as plain data; the metrics of classification are null where none were measured."""
        first = {name: value for name, value in vars(self).items() if name not in ("measured", "seconds")}
        metrics = NOT_MEASURED if self.measured is None else self.measured.as_dict()
        return {**first, **metrics, "seconds": self.seconds}


@dataclass(frozen=True)
class Summary:
    """The results of a run: its stages in order, and where the bytes of its container go."""

    name: str
    results: list[StageResult]
    sizes: SizeReport

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain data."""
        results = [result.as_dict() for result in self.results]
        return {"name": self.name, "ratio": self.sizes.ratio, "stages": results, "sizes": self.sizes.as_dict()}
