"""A data set of the user as the examples of a task: dcomp shuffles it and makes its batches.

The random numbers of an example's augmentation follow from the seed, the epoch and the batch alone, so a restored epoch
and one with other worker processes see the same examples.
"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from dcomp.errors import DataError
from dcomp.learning import distributed
from dcomp.learning.examples import Batch, Draw
from dcomp.learning.examples.contents import to_device
from dcomp.learning.objectives import Objective
from dcomp.learning.seeds import mixed, seed_numpy_and_python
from dcomp.system.ranks import RANK

MEASURED_BATCH = 64
"""Examples that are measured at a time."""

CPU = torch.device("cpu")

Numbered = tuple[int, list[int]]
"""The seed of a batch, and the numbers of its examples."""


@dataclass(frozen=True)
class ItemExamples:
    """Items of a data set.

    Attributes:
        items: the data set: it has `__len__` and `__getitem__`.
        objective: of the task.
        workers: processes that read items; 0: this one does.
        rows: numbers of the items that count.
        device: of the batches.
        form: arguments of networks that the items decide.
    """

    items: Any
    objective: Objective
    workers: int
    rows: Tensor
    device: torch.device = CPU
    form: Mapping[str, Any] = field(default_factory=dict)

    @property
    def drawn(self) -> int:
        """The number of examples in an epoch."""
        return len(self)

    def __len__(self) -> int:
        return len(self.rows)

    def steps(self, batch_size: int) -> int:
        """Return the number of batches in an epoch."""
        return math.ceil(len(self) / batch_size)

    def subset(self, indices: Tensor) -> "ItemExamples":
        """Return the items at `indices`."""
        return replace(self, rows=self.rows[indices])

    def to(self, device: torch.device) -> "ItemExamples":
        """Return the same items, with batches on another device."""
        return replace(self, device=device)

    def first(self) -> Batch:
        """Return the first two items as a batch, so that its examples can be told from its other dimensions."""
        return next(self._read([(0, self.rows[:2].tolist())], [1.0], workers=0))

    def drawn_batches(self, draw: Draw) -> Iterator[Batch]:
        """Return batches of items in the order that is drawn."""
        parts, seed = draw.parts(len(self)), draw.order.initial_seed()
        numbered = [
            (mixed(seed, number, RANK), self.rows[indices].tolist())
            for number, (indices, _) in enumerate(parts, draw.first)
        ]
        return self._read(numbered, [weight for _, weight in parts], self.workers)

    def batches(self) -> Iterator[Batch]:
        """Return batches of all items in order; each of several processes gets a part."""
        span = distributed.span_of(len(self))
        if not span:  # this process's part is empty: it measures an example that counts for nothing
            return iter([replace(self.first(), size=0)])
        chunks = self.rows[span.start : span.stop].split(MEASURED_BATCH)
        numbered = [(mixed(number, RANK), rows.tolist()) for number, rows in enumerate(chunks)]
        return self._read(numbered, [1.0] * len(numbered), self.workers)

    def _read(self, numbered: Sequence[Numbered], weights: Sequence[float], workers: int) -> Iterator[Batch]:
        loader: DataLoader[Any] = DataLoader(
            _Reader(self.items),  # type: ignore[arg-type]  # a data set by its methods
            batch_size=None,
            sampler=numbered,  # whatever `_Reader` is indexed with
            num_workers=min(workers, len(numbered)),
            generator=torch.Generator(),  # or it would draw from the one that makes the weights
        )
        try:
            for content, (_, rows), weight in zip(loader, numbered, weights, strict=True):
                yield Batch(to_device(content, self.device), len(rows), weight)
        except DataError as error:  # a worker's comes with its traceback
            raise DataError(str(error).strip().rpartition("DataError: ")[2]) from error


@dataclass(frozen=True)
class _Reader:
    """A data set of batches, which are indexed with their seeds and the numbers of their items."""

    items: Any

    def __getitem__(self, numbered: Numbered) -> Any:
        """Return a batch.

        Raises:
            DataError: an item cannot be read, or the items of a batch do not fit together.
        """
        seed, rows = numbered
        with _seeded(seed):
            try:
                items = [self.items[row] for row in rows]
            except Exception as error:  # the user's code may raise anything
                raise DataError(f"the data set fails: {type(error).__name__}: {error}") from error
        try:
            return default_collate(items)
        except (RuntimeError, TypeError) as error:
            raise DataError(
                f"the examples of the data set do not form a batch ({error}); give a torch DataLoader with a "
                "collate_fn in place of the data set"
            ) from error


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the random numbers of torch, numpy and Python in a block, and restore their states after it."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.manual_seed(seed)
    seed_numpy_and_python(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
