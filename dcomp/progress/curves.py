"""The curves of a training: the name that loggers show for each figure of an epoch."""

from dcomp.progress.observer import EpochRecord

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
