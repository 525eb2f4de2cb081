"""The run of `dcomp demo`: LeNet-5 on scikit-learn's digits, small enough to watch."""

from pathlib import Path

from dcomp.progress.observer import Observer
from dcomp.runs.run import Run
from dcomp.runs.summary import Summary
from dcomp.settings.recipe import Recipe

RECIPE = {
    "name": "demo",
    "data": "digits",
    "train": {"architecture": "lenet5", "epochs": 25, "batch_size": 32},
    "prune": {"sparsity": 0.9, "epochs": 30, "until": 10, "batch_size": 32},
    "quantize": {"conv_bits": 8, "fc_bits": 5, "epochs": 5, "batch_size": 32},
    "eval": {},
}


def run(folder: Path, observer: Observer, threads: int | None = None) -> Summary:
    """Train, prune, quantize, encode and decode on the digits; every stage's checkpoint stays in `folder`.

    Raises:
        DataError: scikit-learn is not installed.
        DcompError: the decoded checkpoint differs from the encoded one.
    """
    return Run(Recipe.model_validate({**RECIPE, "threads": threads}), folder, observer).run()
