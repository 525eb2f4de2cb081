"""The examples of a task, as batches to learn from and to measure on: images, data sets, or loaders of the user."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from dcomp.learning import distributed
from dcomp.learning.objectives import Objective
from dcomp.settings.fields import Augment


@dataclass(frozen=True)
class Batch:
    """What a loss and metrics get.

    Attributes:
        content: tensors, or tuples, lists and mappings of tensors, on the network's device.
        size: how many examples it has.
        weight: of its loss, where several processes train together; 0 for a part without examples.
    """

    content: Any
    size: int
    weight: float = 1.0


@dataclass(frozen=True)
class Draw:
    """The order in which examples are drawn, and the random numbers of their augmentation.

    Attributes:
        order: draws the order.
        chance: of the augmentation of images.
        batch_size: of the batches that dcomp makes.
        augment: of images.
        first: the number of the first batch to draw; those before are done.
        last: the number of the first batch that is not drawn; None: all are.
        divided: whether several processes each take a part of every batch.
    """

    order: torch.Generator
    chance: torch.Generator
    batch_size: int
    augment: Augment = "none"
    first: int = 0
    last: int | None = None
    divided: bool = False

    def parts(self, count: int) -> list[tuple[Tensor, float]]:
        """Return the indices of each batch of `count` examples, or of this process's part, and the loss's weight."""
        batches = torch.randperm(count, generator=self.order).split(self.batch_size)[self.first : self.last]
        return [distributed.part_of(indices) if self.divided else (indices, 1.0) for indices in batches]


class Examples(Protocol):
    """Examples of a task, in memory or on disk."""

    @property
    def objective(self) -> Objective:
        """The loss and the metrics of the task."""

    @property
    def form(self) -> Mapping[str, Any]:
        """The arguments of networks that these examples decide, like `classes`."""

    @property
    def drawn(self) -> int:
        """The number of examples in the latest epoch."""

    def __len__(self) -> int:
        """Return the number of examples; that of batches where reading them is the only way to count."""

    def steps(self, batch_size: int) -> int:
        """Return the number of batches in an epoch."""

    def subset(self, indices: Tensor) -> Self:
        """Return the examples at `indices`.

        Raises:
            UsageError: they have no numbers.
        """

    def to(self, device: torch.device) -> Self:
        """Return the same examples, with batches on another device."""

    def first(self) -> Batch:
        """Return the first example, or the first few, as a batch; of a loader the first batch."""

    def drawn_batches(self, draw: Draw) -> Iterator[Batch]:
        """Return batches to learn from."""

    def batches(self) -> Iterator[Batch]:
        """Return batches to measure on; each of several processes gets a part."""
