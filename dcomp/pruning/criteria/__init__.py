"""Criteria: how weights are ranked. The table `CRITERIA` lists them; it needs no numpy.

A criterion is a file of this folder with one function, `score(evidence)`, and a line in the table. It returns scores
of the shape of the weights, or (rows, 1, ...) where whole rows are ranked. The largest scores are kept. A weight that
is zero scores zero, so it stays pruned for as long as the budget allows.

All scores have one meaning: the root of the expected increase of the loss if the weight becomes zero, up to a factor
that all weights share. So `magnitude` is |w|, for a loss that grows with w^2. Ranking needs the root alone; where
weights compete for bytes, `ranking.saliency` squares it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np  # the command line needs the names, and starts without numpy

Granularity = Literal["weight", "row"]


@dataclass(frozen=True)
class Evidence:
    """The data that a criterion may use, for one tensor.

    Attributes:
        weights: as they are now.
        granularity: whether single weights are ranked, or whole rows.
        squared_gradients: mean squared gradients, of the weights' shape, if the criterion needs gradients.
        chance: random numbers in (0, 1], of the scores' shape, if the criterion needs them; the same at every move.
    """

    weights: "np.ndarray"
    granularity: Granularity = "weight"
    squared_gradients: "np.ndarray | None" = None
    chance: "np.ndarray | None" = None


Score = Callable[[Evidence], "np.ndarray"]


@dataclass(frozen=True)
class Criterion:
    """One way to rank weights.

    Attributes:
        score: the function, or the name of the file in this folder that holds it as `score`.
        granularity: whether it can rank weights, rows, or both.
        needs_gradients: whether it uses gradients, so that it ranks only while a network retrains.
        needs_chance: whether it uses random numbers.
    """

    score: Score | str
    granularity: tuple[Granularity, ...] = ("weight",)
    needs_gradients: bool = False
    needs_chance: bool = False

    def scores(self, evidence: Evidence) -> "np.ndarray":
        """Return the scores of one tensor."""
        score = import_module(f"{__name__}.{self.score}").score if isinstance(self.score, str) else self.score
        return score(evidence)


CRITERIA: dict[str, Criterion] = {
    "magnitude": Criterion("magnitude", ("weight", "row")),
    "fisher": Criterion("fisher", needs_gradients=True),
    "std": Criterion("magnitude"),  # ranks as magnitude does; its budget is a threshold
    "random": Criterion("random", ("weight", "row"), needs_chance=True),
}
