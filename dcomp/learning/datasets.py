"""Data sets of small images, whole in memory.

*Images* are uint8 tensors of shape (n, channels, height, width); *labels* int64 of shape (n,).
Normalization happens a batch at a time (`Split.batch`), so an image takes one byte a pixel.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from dcomp.errors import DataError, UsageError, first_line

CACHE = Path("~/.cache/dcomp/data")


@dataclass(frozen=True)
class Split:
    """Images, labels, and the mean and deviation by which the images are normalized."""

    images: Tensor
    labels: Tensor
    mean: float
    deviation: float

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> "Split":
        """The examples at `indices`, normalized alike."""
        return Split(self.images[indices], self.labels[indices], self.mean, self.deviation)

    def to(self, device: torch.device) -> "Split":
        """The same split on another device."""
        return Split(self.images.to(device), self.labels.to(device), self.mean, self.deviation)

    def batch(self, indices: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Normalized float32 images and labels at `indices`."""
        images = self.images[indices].float().div_(255).sub_(self.mean).div_(self.deviation)
        return images, self.labels[indices]


@dataclass(frozen=True)
class Dataset:
    """A data set's training and test examples."""

    train: Split
    test: Split

    def split_validation(self, fraction: float, seed: int) -> tuple[Split, Split]:
        """Set a random fraction of the training examples aside: (training, validation).

        Raises:
            UsageError: nothing is left to train on.
        """
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed))
        held_out = round(len(self.train) * fraction)
        if held_out == len(self.train):
            raise UsageError(f"--val-split {fraction:g} leaves no example to train on")
        return self.train.subset(order[held_out:]), self.train.subset(order[:held_out])


def load(name: str, data_dir: Path | None = None) -> Dataset:
    """Load a data set by name.

    Args:
        name: `mnist`, `fashion-mnist` or `digits`.
        data_dir: the folder that holds `MNIST/raw` and the like; else `$DCOMP_DATA`, else a cache folder.

    Raises:
        DataError: no such data set, or it cannot be had; then says what to put where.
    """
    if name not in DATASETS:
        raise DataError(f"no data set {name!r}; there are {', '.join(DATASETS)}")
    return DATASETS[name](data_dir or Path(os.environ.get("DCOMP_DATA") or CACHE).expanduser())


def _torchvision_mnist(class_name: str, mean: float, deviation: float) -> Callable[[Path], Dataset]:
    def load_from(root: Path) -> Dataset:
        from dcomp.learning import vision  # here, not above: digits need no torchvision

        raw = root / class_name / "raw"
        splits = []
        for train in (True, False):
            try:
                read = getattr(vision.datasets, class_name)(str(root), train=train, download=True)
            except (RuntimeError, OSError, ValueError) as error:
                names = "{train,t10k}-images-idx3-ubyte and {train,t10k}-labels-idx1-ubyte"
                raise DataError(
                    f"{class_name} is not in {raw} and cannot be downloaded ({first_line(error)}); "
                    f"put {names} (or their .gz) there, or name another folder with --data-dir"
                ) from error
            splits.append(Split(read.data.unsqueeze(1).contiguous(), read.targets.long(), mean, deviation))
        return Dataset(*splits)

    return load_from


def _digits(_: Path) -> Dataset:
    """scikit-learn's 1,797 digits of 8x8 (UCI, Alpaydin and Kaynak 1998), resized to 28x28; a fifth are for testing."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            "the data set digits comes with scikit-learn; install it with pip install 'dcomp[demo]'"
        ) from error
    bundle = load_digits()
    small = torch.from_numpy(bundle.images).float().unsqueeze(1) * (255 / 16)
    images = F.interpolate(small, size=28, mode="bilinear").round().to(torch.uint8)
    labels = torch.from_numpy(bundle.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    everything = Split(images, labels, mean=0.306, deviation=0.325)
    held_out = len(labels) // 5
    return Dataset(everything.subset(order[held_out:]), everything.subset(order[:held_out]))


DATASETS: dict[str, Callable[[Path], Dataset]] = {
    "mnist": _torchvision_mnist("MNIST", 0.1307, 0.3081),
    "fashion-mnist": _torchvision_mnist("FashionMNIST", 0.2860, 0.3530),
    "digits": _digits,
}
