"""What loggers show of a training: curves of the figures of its epochs, and histograms of its weights."""

from collections.abc import Iterator, Mapping

import numpy as np

from dcomp.progress.observer import EpochRecord

BINS = 100
"""Bins of a histogram, over the range of the kept weights."""

NAMES = {
    "train_loss": "loss/train",
    "val_loss": "loss/validation",
    "val_error": "error/top-1",
    "val_top5_error": "error/top-5",
    "lr": "learning rate",
    "sparsity": "sparsity",
    "seconds": "seconds",
}
"""Names of curves by those of figures; the curves of a task's metrics are `validation/NAME`."""


def points_of(record: EpochRecord) -> dict[str, float]:
    """Return an epoch's point of each curve; of those of validation there is none without validation examples."""
    figures = {key: value for key, value in record.figures().items() if value is not None and key != "epoch"}
    points = {NAMES.get(key, f"validation/{key.removeprefix('val_')}"): value for key, value in figures.items()}
    return points | {f"sparsity by layer/{layer}": sparsity for layer, sparsity in record.layers.items()}


def kept_weights(tensors: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield for each tensor the name of its histogram and its kept weights, in single precision, if all are finite."""
    for name, array in tensors.items():
        with np.errstate(over="ignore"):
            kept = array[array != 0].astype(np.float32)
        if kept.size and np.isfinite(kept).all():
            yield f"weights/{name}", kept
