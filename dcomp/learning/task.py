"""Any task that a network learns: its examples, its loss, and how a network is judged. It needs no torch."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dcomp.progress.measurement import LOSS

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.data import Dataset

FORM = """a factory of data returns one of
    (train, test) or (train, validation, test): torch data sets of pairs (input, label), the label an integer
    dcomp.Task(train=..., validation=..., test=..., loss=..., metrics=..., judge="iou", lower_is_better=False)
        train, validation, test: torch data sets, or data loaders; validation may be None
        loss(model, batch): a tensor with one number
        metrics(model, batch): numbers by name, as in {"iou": 0.8}, means over the batch
    dcomp.learning.datasets.Dataset(train=..., test=...): images in memory"""
"""What a factory of data may return, for error messages."""


def described(value: object) -> str:
    """Describe a value of a wrong form in a few words, for error messages."""
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    if hasattr(value, "shape"):
        return f"a {type(value).__name__.lower()} of shape {tuple(value.shape)}"
    return "None" if value is None else f"a {type(value).__name__}"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task for `--data package.module:factory`, which returns it.

    >>> import dcomp
    >>> task = dcomp.Task(train=[], test=[], loss=lambda model, batch: model(batch).square().mean())
    >>> (task.judge, task.lower_is_better)
    ('loss', True)

    A data set, anything with `__len__` and `__getitem__` that is no list, is shuffled and cut into batches by dcomp;
    each epoch and each example has its random numbers, which `--seed` decides. A data loader, or any other sized
    iterable of batches, decides its batches and their order itself.

    Attributes:
        train: a data set or a loader, of what the network learns from.
        test: a data set or a loader, of what `eval` measures on.
        validation: a data set or a loader, by which the best epoch is chosen; None: a part of `train`, as `--val-split`
            says, where that is a data set.
        loss: returns the mean loss of a batch, a tensor with one number. Batches are on the network's device.
        metrics: returns the means of other metrics over a batch, numbers or tensors with one number, by name; where
            `loss` is among them, the loss is not computed again.
        judge: the name of the metric that says which network is better.
        lower_is_better: whether a lower value of it is better.
    """

    train: "Dataset[Any] | Iterable[Any]"
    test: "Dataset[Any] | Iterable[Any]"
    loss: "Callable[[nn.Module, Any], Tensor]"
    validation: "Dataset[Any] | Iterable[Any] | None" = None
    metrics: "Callable[[nn.Module, Any], Mapping[str, float | Tensor]] | None" = None
    judge: str = LOSS
    lower_is_better: bool = True
