"""A data loader of the user as the examples of a task: it makes its batches, and decides their order.

At the beginning of each epoch torch, numpy and Python get seeds for their random numbers. A loader that draws from
these alone, in this process, gives the same batches in every run. A restored epoch passes over the batches that are
done.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from dcomp.errors import DataError, UsageError
from dcomp.learning.examples import Batch, Draw
from dcomp.learning.examples.contents import size_of, to_device
from dcomp.learning.objectives import Objective
from dcomp.learning.seeds import seed_numpy_and_python

CPU = torch.device("cpu")


class LoaderExamples:
    """The batches of a loader.

    Attributes:
        objective: of the task.
        drawn: the number of examples in the latest epoch.
        form: no argument of a network follows from a loader.
    """

    form: Mapping[str, Any] = {}

    def __init__(self, loader: Iterable[Any], objective: Objective, device: torch.device = CPU) -> None:
        """Take a loader that has a length, the objective, and the device of the batches."""
        self._loader = loader
        self._device = device
        self.objective = objective
        self.drawn = 0

    def __len__(self) -> int:
        items: Any = getattr(self._loader, "dataset", self._loader)
        return len(items) if hasattr(items, "__len__") else self.steps(0)

    def steps(self, batch_size: int) -> int:
        """Return the number of the loader's batches, whose sizes are its own."""
        return len(self._loader)  # type: ignore[arg-type]  # `TaskData.of` has checked it

    def subset(self, indices: Tensor) -> "LoaderExamples":
        """Refuse: the examples of a loader have no numbers.

        Raises:
            UsageError: always.
        """
        raise UsageError("a part of a loader's examples cannot be taken: give a torch data set in its place")

    def to(self, device: torch.device) -> "LoaderExamples":
        """Return the same loader, with batches on another device."""
        return LoaderExamples(self._loader, self.objective, device)

    def first(self) -> Batch:
        """Return the first batch.

        Raises:
            DataError: there is none.
        """
        batch = next(self.batches(), None)
        if batch is None:
            raise DataError("the loader has no batch: give one that has examples")
        return batch

    def drawn_batches(self, draw: Draw) -> Iterator[Batch]:
        """Return the batches from the first that is not done; the loader draws their order now."""
        seed_numpy_and_python(draw.order.initial_seed())
        contents = self._contents()
        self.drawn = sum(size_of(content) for content in islice(contents, draw.first))
        if draw.last is not None:
            return self._counted(islice(contents, draw.last - draw.first))
        return self._complete(self._counted(contents), self.steps(0) - draw.first)

    def batches(self) -> Iterator[Batch]:
        """Yield all batches."""
        for content in self._contents():
            yield Batch(to_device(content, self._device), size_of(content))

    def _counted(self, contents: Iterator[Any]) -> Iterator[Batch]:
        for content in contents:
            size = size_of(content)
            self.drawn += size
            yield Batch(to_device(content, self._device), size)

    def _complete(self, batches: Iterator[Batch], count: int) -> Iterator[Batch]:
        """Yield batches.

        Raises:
            DataError: there are not as many as the loader's length says.
        """
        given = 0
        for given, batch in enumerate(batches, 1):
            if given <= count:
                yield batch
        if given != count:
            raise DataError(
                f"the loader's length is {self.steps(0)}, but it gave {self.steps(0) + given - count} batches; its "
                "length is the number of its batches"
            )

    def _contents(self) -> Iterator[Any]:
        """Yield what the loader gives.

        Raises:
            DataError: the loader fails.
        """
        try:
            yield from self._loader
        except Exception as error:  # the user's code may raise anything
            raise DataError(f"the loader fails: {type(error).__name__}: {error}") from error
