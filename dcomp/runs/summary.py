"""The results of a run: a row for each stage, and the sizes of its container."""

from dataclasses import asdict, dataclass
from typing import Any

from dcomp.reporting.sizes import SizeReport


@dataclass(frozen=True)
class StageResult:
    """The results of a stage.

    Attributes:
        stage: its name.
        file: the name of the file that it wrote.
        bytes: that file's size.
        sparsity: the fraction of zeros in the weights of layers.
        kept_percent: the elements of all tensors that are not zero, in percent, as in a report.
        top1_error, top5_error: in percent on the test examples; None where the recipe has no section eval, as `loss`.
        loss: the mean cross-entropy on them in nats.
        seconds: how long the stage took.
    """

    stage: str
    file: str
    bytes: int
    sparsity: float
    kept_percent: float
    top1_error: float | None
    top5_error: float | None
    loss: float | None
    seconds: float


@dataclass(frozen=True)
class Summary:
    """The results of a run: its stages in order, and where the bytes of its container go."""

    name: str
    results: list[StageResult]
    sizes: SizeReport

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain data."""
        results = [asdict(result) for result in self.results]
        return {"name": self.name, "ratio": self.sizes.ratio, "stages": results, "sizes": self.sizes.as_dict()}
