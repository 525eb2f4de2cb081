"""Examples in two splits, and the batches of a training loop.

*Stored images* are uint8 tensors of shape (n, channels, height, width); *labels* int64 of shape (n,). Normalization
happens a batch at a time (`Split.preprocessing`), so a stored image takes one byte a value.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from torch import Tensor

from dcomp.learning.datasets.preprocessing import Preprocessing

GRAY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a gray value (ITU-R BT.601), as in PIL."""

CHUNK = 5000  # images that are turned gray at a time


class Split(Protocol):
    """Examples in memory or on disk."""

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing from stored images to a network's input."""

    @property
    def classes(self) -> int:
        """The number of classes, whether or not each has an example here."""

    @property
    def channels(self) -> int:
        """1 for grayscale images, 3 for RGB."""

    @property
    def size(self) -> int:
        """Height of the images as a network takes them."""

    def __len__(self) -> int: ...

    def subset(self, indices: Tensor) -> Self:
        """Return the examples at `indices`."""

    def to(self, device: torch.device) -> Self:
        """Return the same examples, with batches on another device."""

    def batches(self, order: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield stored images and labels for each tensor of indices in `order`."""


class MemorySplit:
    """Images in one tensor."""

    def __init__(
        self, images: Tensor, labels: Tensor, preprocessing: Preprocessing, classes: int | None = None
    ) -> None:
        """Take images and labels.

        Args:
            images: uint8, (n, channels, height, width).
            labels: int64, (n,).
            preprocessing: for these images.
            classes: how many there are; else one more than the largest label.
        """
        self.images = images
        self.labels = labels
        self.preprocessing = preprocessing
        self.classes = int(labels.max()) + 1 if classes is None else classes

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def channels(self) -> int:
        """1 for grayscale images, 3 for RGB."""
        return self.images.shape[1]

    @property
    def size(self) -> int:
        """Height of the images as a network takes them."""
        return self.preprocessing.size_of(self.images)[0]

    def subset(self, indices: Tensor) -> "MemorySplit":
        """Return a copy of the examples at `indices`."""
        return MemorySplit(self.images[indices], self.labels[indices], self.preprocessing, self.classes)

    def to(self, device: torch.device) -> "MemorySplit":
        """Return the same examples on another device."""
        return MemorySplit(self.images.to(device), self.labels.to(device), self.preprocessing, self.classes)

    def batches(self, order: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield stored images and labels for each tensor of indices in `order`."""
        for indices in order:
            yield self.images[indices], self.labels[indices]

    def in_form(self, *, grayscale: bool | None, crop: int | None) -> "MemorySplit":
        """Return the same examples in gray or in three channels, and cut to `crop`; None changes nothing."""
        images, preprocessing = self.images, replace(self.preprocessing, crop=crop)
        if grayscale and self.channels == 3:
            weights = torch.tensor(GRAY).reshape(3, 1, 1)
            images = torch.cat([(part * weights).sum(1, keepdim=True) for part in images.split(CHUNK)])
            images = images.round_().to(torch.uint8)
            preprocessing = replace(
                preprocessing, mean=_mean(preprocessing.mean), deviation=_mean(preprocessing.deviation)
            )
        elif grayscale is False and self.channels == 1:
            images = images.expand(-1, 3, -1, -1)
        return MemorySplit(images, self.labels, preprocessing, self.classes)


def _mean(values: tuple[float, ...]) -> tuple[float]:
    return (sum(values) / len(values),)


@dataclass(frozen=True)
class Dataset:
    """A data set's training and test examples."""

    train: Split
    test: Split
