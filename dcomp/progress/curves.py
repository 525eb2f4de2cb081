"""The curves of a training: the name that loggers show for each figure of an epoch."""

from dcomp.progress.observer import EpochRecord

NAMES = {
    "loss/train": "train_loss",
    "loss/validation": "val_loss",
    "error/top-1": "val_error",
    "error/top-5": "val_top5_error",
    "learning rate": "lr",
    "sparsity": "sparsity",
    "seconds": "seconds",
}


def points_of(record: EpochRecord) -> dict[str, float]:
    """Return an epoch's point of each curve; of those of validation there is none without validation examples."""
    figures = {name: getattr(record, key) for name, key in NAMES.items()}
    points = {name: value for name, value in figures.items() if value is not None}
    return points | {f"sparsity by layer/{layer}": sparsity for layer, sparsity in record.layers.items()}
