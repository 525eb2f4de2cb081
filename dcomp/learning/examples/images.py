"""Images and their classes as the examples of a task."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dcomp.learning import distributed
from dcomp.learning.datasets.split import Split
from dcomp.learning.examples import Batch, Draw
from dcomp.learning.objectives import Classification

BATCH = 1000
BATCH_VALUES = 1 << 24
"""The values of all channels in a batch of large images to measure on are no more than this."""


@dataclass(frozen=True)
class ImageExamples:
    """A split of images. A batch is a pair: the input of a network and labels."""

    split: Split

    @cached_property
    def objective(self) -> Classification:
        """Classification into the classes of the split."""
        return Classification(self.split.classes)

    @property
    def form(self) -> Mapping[str, Any]:
        """The number of classes, whether images are grayscale, and their height."""
        return {"classes": self.split.classes, "grayscale": self.split.channels == 1, "size": self.split.size}

    @property
    def drawn(self) -> int:
        """The number of examples in an epoch."""
        return len(self)

    def __len__(self) -> int:
        return len(self.split)

    def steps(self, batch_size: int) -> int:
        """Return the number of batches in an epoch."""
        return math.ceil(len(self) / batch_size)

    def subset(self, indices: Tensor) -> "ImageExamples":
        """Return the images at `indices`."""
        return ImageExamples(self.split.subset(indices))

    def to(self, device: torch.device) -> "ImageExamples":
        """Return the same images, with batches on another device."""
        return ImageExamples(self.split.to(device))

    def first(self) -> Batch:
        """Return the first image as a batch."""
        return next(self._measured([torch.zeros(1, dtype=torch.long)]))

    def drawn_batches(self, draw: Draw) -> Iterator[Batch]:
        """Yield batches of augmented images."""
        preprocessing, parts = self.split.preprocessing, draw.parts(len(self))
        stored_batches = self.split.batches([indices for indices, _ in parts])
        for (stored, labels), (_, weight) in zip(stored_batches, parts, strict=True):
            images = preprocessing.train(stored, draw.augment, draw.chance)
            yield Batch((images, labels), len(labels), weight)

    def batches(self) -> Iterator[Batch]:
        """Return batches of the centres of images; each of several processes gets a part."""
        span = distributed.span_of(len(self))
        size = max(1, min(BATCH, BATCH_VALUES // (self.split.channels * self.split.size**2)))
        return self._measured(list(torch.arange(span.start, span.stop).split(size)))

    def _measured(self, order: list[Tensor]) -> Iterator[Batch]:
        for stored, labels in self.split.batches(order):
            yield Batch((self.split.preprocessing.test(stored), labels), len(labels))
