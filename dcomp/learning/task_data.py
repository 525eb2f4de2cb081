"""The examples of a task in three parts: from a data set of images, or from what a factory of the user returns."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data import Dataset as TorchDataset

from dcomp.errors import DataError, UsageError
from dcomp.learning.datasets import Dataset
from dcomp.learning.examples import Examples
from dcomp.learning.examples.images import ImageExamples
from dcomp.learning.examples.items import ItemExamples
from dcomp.learning.examples.loaders import LoaderExamples
from dcomp.learning.imitation import Imitation
from dcomp.learning.objectives import Classification, Objective, TaskObjective
from dcomp.learning.task import FORM, Task, described
from dcomp.progress.measurement import LOSS
from dcomp.settings import DataSettings, LearningSettings
from dcomp.settings.base import option_of
from dcomp.system.ranks import WORLD_SIZE

IMAGE_OPTIONS = ("augment", "resize", "cache")
"""Settings that change dcomp's own images, and no data set of the user."""

LABEL_OPTIONS = ("label_smoothing",)
"""Settings of classification."""

Parts = tuple[Any, Any, Any]
"""What a network learns from, the validation of it or None, and the test."""


@dataclass(frozen=True)
class TaskData:
    """The examples of a task.

    Attributes:
        train: to learn from.
        validation: to choose the best epoch by; None: a part of `train`.
        test: for `eval`.
    """

    train: Examples
    validation: Examples | None
    test: Examples

    @classmethod
    def of(cls, returned: Any, name: str, settings: DataSettings) -> "TaskData":
        """Return the examples of what a factory returned, or of a data set of dcomp.

        Raises:
            DataError: it has none of the forms that `Task` describes.
            UsageError: a setting would do nothing.
        """
        if isinstance(returned, Dataset):
            return cls(ImageExamples(returned.train), None, ImageExamples(returned.test))
        _refuse(settings, IMAGE_OPTIONS, f"changes images of dcomp's data sets, and not what {name} returns")
        objective, parts = (_of_task if isinstance(returned, Task) else _of_data_sets)(returned, name, settings)
        train, validation, test = (
            _examples(part, objective, settings.workers or 0, f"{kind} of {name}") if part is not None else None
            for part, kind in zip(parts, ("train", "validation", "test"), strict=True)
        )
        if train is None or test is None:
            raise DataError(f"{'train' if train is None else 'test'} of {name} is None; {FORM}")
        if validation is not None:
            _refuse(settings, ("val_split",), f"would do nothing, as {name} has validation examples")
        return cls(train, validation, test)

    def split_validation(self, fraction: float, seed: int) -> tuple[Examples, Examples]:
        """Return training and validation examples; of a task without the latter, a random fraction of the former.

        A loader's examples have no numbers, so none of them can be set aside.

        Raises:
            UsageError: nothing is left to train on.
        """
        if self.validation is not None:
            return self.train, self.validation
        if isinstance(self.train, LoaderExamples):
            return self.train, LoaderExamples([], self.train.objective)
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed))
        held_out = round(len(self.train) * fraction)
        if held_out == len(self.train):
            raise UsageError(f"--val-split {fraction:g} leaves no example to train on")
        return self.train.subset(order[held_out:]), self.train.subset(order[:held_out])


def _of_task(task: Task, name: str, settings: DataSettings) -> tuple[Objective, Parts]:
    """Return what a network learns from a task, and the parts of it.

    Raises:
        DataError: the loss, the metrics or the judge have another form.
        UsageError: a setting for labels.
    """
    _refuse(settings, LABEL_OPTIONS, "is for classification, and a Task has a loss of its own")
    _check_functions(task, name)
    return TaskObjective(task), (task.train, task.validation, task.test)


def _of_data_sets(returned: Any, name: str, settings: DataSettings) -> tuple[Objective, Parts]:
    """Return what a network learns from two or three data sets, and these as parts.

    Raises:
        DataError: they are no data sets, or their examples have another form.
        UsageError: a setting for labels, and there are none.
    """
    parts = _pair_or_triple(returned, name)
    objective = _objective_of(parts[0], name, settings)
    for part in returned if isinstance(objective, Classification) else ():
        _check_pair(part, name)
    return objective, parts


def _refuse(settings: DataSettings, options: Iterable[str], reason: str) -> None:
    """Raise UsageError for a setting that a person gave and that would do nothing."""
    for option in options:
        field = type(settings).model_fields.get(option)
        if field is not None and getattr(settings, option) != field.default:
            raise UsageError(f"{option} ({option_of(option)}) {reason}: leave it out")


def _check_functions(task: Task, name: str) -> None:
    """Raise DataError unless the loss and the metrics of a task are functions, and its judge is a name."""
    if not callable(task.loss) or not (task.metrics is None or callable(task.metrics)):
        raise DataError(f"the loss and the metrics of {name} must be functions of a model and a batch; {FORM}")
    if not isinstance(task.judge, str) or not isinstance(task.lower_is_better, bool):
        raise DataError(f"the judge of {name} must be the name of a metric, and lower_is_better a bool; {FORM}")
    if task.judge == LOSS and not task.lower_is_better:
        raise DataError(f"the loss judges {name}, and a lower loss is better: give judge, the name of a metric; {FORM}")


def _pair_or_triple(returned: Any, name: str) -> Parts:
    """Return train, validation (None in a pair) and test.

    Raises:
        DataError: it is no pair or triple of data sets.
    """
    if not isinstance(returned, tuple) or len(returned) not in (2, 3):
        raise DataError(f"{name} returned {described(returned)}; {FORM}")
    train, *validation, test = returned
    for part in returned:
        if not _is_items(part):
            raise DataError(f"{name} returned a tuple with {described(part)}, which is no torch data set; {FORM}")
    return train, validation[0] if validation else None, test


def _objective_of(items: Any, name: str, settings: DataSettings) -> Objective:
    """Return what a network learns from data sets: classes, or without labels to imitate its teacher.

    Raises:
        DataError: the first item cannot be read, or has no label where labels count.
        UsageError: a setting for labels, and there are none.
    """
    item = _first(items, name)
    if isinstance(item, list | tuple) and len(item) != 1:
        return Classification(None, "inputs")
    if not isinstance(settings, LearningSettings) or settings.distill is None or settings.alpha < 1:
        without = (
            "without labels a network can imitate a teacher: give distill (--distill FILE) and alpha 1"
            if isinstance(settings, LearningSettings)
            else "without labels there is nothing to measure: name data (--data) with labels, or a dcomp.Task"
        )
        raise DataError(f"an example of {name} is {described(item)}, not a pair (input, label); {without}; {FORM}")
    _refuse(settings, LABEL_OPTIONS, f"is for labels, which the examples of {name} lack")
    return Imitation()


def _first(items: Any, name: str) -> Any:
    """Return the first item of a data set, or a pair where it is empty.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return items[0] if len(items) else (torch.zeros(1), 0)
    except Exception as error:  # the user's code may raise anything
        raise DataError(f"the data set of {name} fails: {type(error).__name__}: {error}") from error


def _check_pair(items: Any, name: str) -> None:
    """Raise DataError unless the first item is a pair (input, label)."""
    item = _first(items, name)
    is_pair = isinstance(item, list | tuple) and len(item) == 2
    if not is_pair:
        raise DataError(f"an example of {name} is {described(item)}, not a pair (input, label); {FORM}")
    label = torch.as_tensor(item[1]) if isinstance(item[1], int | float | Tensor) or hasattr(item[1], "dtype") else None
    if label is None or label.ndim or label.is_floating_point():
        raise DataError(
            f"a label of {name} is {described(item[1])}, not an integer; for other tasks return a Task; {FORM}"
        )


def _is_items(part: Any) -> bool:
    """Tell whether a part of a task is a data set, with items by number, and not a loader."""
    if isinstance(part, TorchDataset):
        return not isinstance(part, IterableDataset) and hasattr(part, "__len__")
    return not isinstance(part, list | tuple | str | dict) and hasattr(part, "__getitem__") and hasattr(part, "__len__")


def _examples(part: Any, objective: Objective, workers: int, place: str) -> Examples:
    """Return the examples of a data set or a loader.

    Raises:
        DataError: it is neither, or has no examples.
        UsageError: several processes cannot divide a loader's batches.
    """
    if _is_items(part):
        if not len(part):
            raise DataError(f"{place} has no examples")
        examples = ItemExamples(part, objective, workers, torch.arange(len(part)))
        return replace(examples, form=_form_of(part)) if isinstance(objective, Classification) else examples
    if isinstance(part, DataLoader) or (hasattr(part, "__iter__") and hasattr(part, "__len__")):
        if WORLD_SIZE > 1:
            raise UsageError(f"{place} is a loader, whose batches torchrun's processes cannot divide: give a data set")
        return LoaderExamples(_with_length(part, place), objective)
    raise DataError(f"{place} is {described(part)}, not a torch data set or a loader with a length; {FORM}")


def _with_length(loader: Any, place: str) -> Any:
    """Return a loader that says how many batches it has.

    Raises:
        DataError: it does not, or has none.
    """
    try:
        count = len(loader)
    except TypeError as error:  # of a DataLoader of an IterableDataset
        raise DataError(
            f"{place} has no length, the number of its batches, which learning rates and prunings go by: give its "
            "data set a __len__"
        ) from error
    if not count:
        raise DataError(f"{place} has no batches")
    return loader


def _form_of(items: Any) -> dict[str, Any]:
    """Return the arguments of networks that a data set for classification decides: those of square images."""
    inputs, _ = items[0]
    classes = getattr(items, "classes", None)
    form: dict[str, Any] = {"classes": len(classes)} if isinstance(classes, list | tuple) else {}
    if (
        isinstance(inputs, Tensor)
        and inputs.ndim == 3
        and inputs.shape[0] in (1, 3)
        and inputs.shape[1] == inputs.shape[2]
    ):
        form |= {"grayscale": inputs.shape[0] == 1, "size": inputs.shape[1]}
    return form
