"""Data sets of small images, in memory: torchvision's, and scikit-learn's digits."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dcomp.errors import DataError, first_line
from dcomp.learning.datasets.preprocessing import Preprocessing
from dcomp.learning.datasets.split import Dataset, MemorySplit
from dcomp.settings import Augment

MNIST_FILES = "{train,t10k}-images-idx3-ubyte and {train,t10k}-labels-idx1-ubyte (or their .gz)"

Normalization = tuple[tuple[float, ...], tuple[float, ...]]
"""Means and deviations of the training images' channels."""


def mnist(class_name: str, normalization: Normalization, root: Path) -> Dataset:
    """Load MNIST or another of its form, from `root/CLASS_NAME/raw`: 60,000 and 10,000 grayscale images of 28x28."""
    files = f"{MNIST_FILES} in {root / class_name / 'raw'}"
    return _from_torchvision(class_name, files, normalization, "none", root)


def cifar(class_name: str, folder: str, normalization: Normalization, root: Path) -> Dataset:
    """Load CIFAR-10 or CIFAR-100, from `root/FOLDER`: 50,000 and 10,000 color images of 32x32."""
    archive = "cifar-10-python.tar.gz" if class_name == "CIFAR10" else "cifar-100-python.tar.gz"
    return _from_torchvision(
        class_name, f"{archive} or its folder {folder} in {root}", normalization, "crop-flip", root
    )


def digits(_: Path) -> Dataset:
    """Load scikit-learn's 1,797 digits of 8x8 (Alpaydin and Kaynak 1998), resized to 28x28; a fifth are for testing."""
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
    everything = MemorySplit(images, labels, Preprocessing((0.306,), (0.325,)))
    held_out = len(labels) // 5
    return Dataset(everything.subset(order[held_out:]), everything.subset(order[:held_out]))


def _from_torchvision(class_name: str, files: str, normalization: Normalization, usual: Augment, root: Path) -> Dataset:
    """Read both splits; `files` says what to put where if they are not there and cannot be downloaded."""
    from dcomp.learning import vision  # here, not above: digits need no torchvision

    preprocessing = Preprocessing(*normalization, usual=usual)
    splits = []
    for train in (True, False):
        try:
            read = getattr(vision.datasets, class_name)(str(root), train=train, download=True)
        except (RuntimeError, OSError, ValueError) as error:
            raise DataError(
                f"{class_name} is not there and cannot be downloaded ({first_line(error)}); "
                f"put {files}, or name another folder with --data-dir"
            ) from error
        images, labels = _as_images(read.data), torch.as_tensor(read.targets, dtype=torch.long)
        splits.append(MemorySplit(images, labels, preprocessing, len(read.classes)))
    return Dataset(*splits)


def _as_images(pixels: Any) -> Tensor:
    """Return pixels (n, height, width) or (n, height, width, channels) as a view (n, channels, height, width)."""
    pixels = torch.as_tensor(pixels)
    return pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.movedim(-1, 1)
