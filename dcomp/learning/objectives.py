"""What networks learn and how they are judged: classification, or the loss and the metrics of a user's task.

A metric is summed over batches, weighted by their sizes, and divided by the number of all examples.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dcomp.errors import ArchitectureError, DataError, first_line
from dcomp.learning.network_outputs import answer_to, logits_of
from dcomp.learning.task import FORM, Task, described
from dcomp.progress.measurement import LOSS, METRICS, PERCENTAGES, RESERVED, TOP1_ERROR, Judge


class Objective(Protocol):
    """The loss and the metrics of a task. `content` is that of a batch."""

    @property
    def judge(self) -> Judge:
        """The metric by which networks are compared."""

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of the metrics that are sure to be measured."""

    def check(self, model: nn.Module, content: Any, architecture: str) -> None:
        """Check with one batch that a network and the task fit.

        Raises:
            ArchitectureError, DataError: they do not.
        """

    def loss(self, model: nn.Module, content: Any, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean loss of a batch, a tensor without dimensions."""

    def sums(self, model: nn.Module, content: Any, size: int) -> dict[str, float]:
        """Return the metrics of a batch of `size` examples, summed over these; `means` divides them."""

    def means(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        """Return the metrics from their sums over `count` examples."""

    def accuracy(self, output: Any, content: Any) -> Tensor | None:
        """Return the part of right answers in the output for a batch; None for other tasks than classification."""


@dataclass(frozen=True)
class Classification:
    """Classification; the content of a batch is a pair: a network's input and the labels, int64, of shape (n,).

    The network returns logits of shape (n, classes).

    Attributes:
        classes: how many there are; None: as many as the network has.
        noun: what the inputs are, for messages.
    """

    classes: int | None
    noun: str = "images"
    judge: Judge = TOP1_ERROR
    metric_names: tuple[str, ...] = METRICS

    def check(self, model: nn.Module, content: Any, architecture: str) -> None:
        """Check that a network takes inputs, and has all classes.

        Raises:
            ArchitectureError: it does not take it, or has too few classes.
        """
        inputs, _ = content
        is_image = self.classes is not None
        shape = self.noun
        if isinstance(inputs, Tensor):
            shape = f"{self.noun} of shape {tuple(inputs.shape[1:] if is_image else inputs.shape)}"
        try:
            with torch.no_grad():
                logits = logits_of(answer_to(model.eval(), inputs))
        except Exception as error:  # the user's code may raise anything
            raise ArchitectureError(f"{architecture} does not take {shape}: {first_line(error)}") from error
        if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < (self.classes or 1):
            answer = tuple(logits.shape) if isinstance(logits, Tensor) else described(logits)
            wanted = f"one image, not (1, {self.classes})" if is_image else f"{shape}, not logits of shape (n, classes)"
            raise ArchitectureError(f"{architecture} gives {answer} for {wanted}")

    def loss(self, model: nn.Module, content: Any, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy, in nats."""
        inputs, labels = content
        with _labels_fit():
            logits = logits_of(answer_to(model, inputs))
            return F.cross_entropy(logits, labels.long(), label_smoothing=label_smoothing)

    def sums(self, model: nn.Module, content: Any, size: int) -> dict[str, float]:
        """Return how many answers are right, at first and among the first five, and the sum of cross-entropies."""
        inputs, labels = content
        logits = logits_of(answer_to(model, inputs))
        with _labels_fit():
            loss = F.cross_entropy(logits, labels.long(), reduction="sum").item()
        ranked = logits.topk(min(5, logits.shape[1])).indices
        hits = ranked == labels.unsqueeze(1)
        return dict(zip(self.metric_names, (int(hits[:, 0].sum()), int(hits.sum()), loss), strict=True))

    def means(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        """Return errors in percent, and the mean cross-entropy."""
        errors = {name: 100 * (1 - sums[name] / count) for name in PERCENTAGES}
        return {**errors, LOSS: sums[LOSS] / count}

    def accuracy(self, output: Any, content: Any) -> Tensor:
        """Return the part of right answers."""
        accuracy: Tensor = (logits_of(output).argmax(1) == content[1]).float().mean()
        return accuracy


class TaskObjective:
    """The loss and the metrics of a user's task.

    Attributes:
        judge: the metric by which networks are compared.
    """

    def __init__(self, task: Task) -> None:
        """Take a task."""
        self._task = task
        self.judge = Judge(task.judge, task.lower_is_better)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The loss and the judge; others are known once they are measured."""
        return tuple(dict.fromkeys((self.judge.metric, LOSS)))

    def check(self, model: nn.Module, content: Any, architecture: str) -> None:
        """Check that loss and metrics of a batch can be computed, and have the right form.

        Raises:
            DataError: they have not.
        """
        with torch.enable_grad():
            loss = self.loss(model.eval(), content)
        if not loss.requires_grad and any(parameter.requires_grad for parameter in model.parameters()):
            raise DataError(f"the loss of the task has no gradient: compute it from the output of {architecture}")
        with torch.no_grad():
            self.sums(model, content, 1)

    def loss(self, model: nn.Module, content: Any, label_smoothing: float = 0.0) -> Tensor:
        """Return the task's loss of a batch.

        Raises:
            DataError: it cannot be computed, or is no tensor with one number.
        """
        with _failing("loss"):
            loss = self._task.loss(model, content)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise DataError(f"the loss of the task is {described(loss)}, not a tensor with one number; {FORM}")
        return loss.float().reshape(())

    def sums(self, model: nn.Module, content: Any, size: int) -> dict[str, float]:
        """Return the task's metrics and its loss, each times the size of the batch.

        Raises:
            DataError: they cannot be computed, are no numbers by name, or the judge is not among them.
        """
        metrics: Any = {}
        if self._task.metrics is not None:
            with _failing("metrics"):
                metrics = self._task.metrics(model, content)
        if not isinstance(metrics, Mapping):
            raise DataError(f"the metrics of the task are {described(metrics)}, not numbers by name; {FORM}")
        means = {_checked_name(name): _number(name, value) for name, value in metrics.items()}
        if LOSS not in means:
            means[LOSS] = float(self.loss(model, content))
        if self.judge.metric not in means:
            raise DataError(
                f"the judge of the task is {self.judge.metric!r}, which its metrics lack: there are {', '.join(means)}"
            )
        return {name: mean * size for name, mean in means.items()}

    def means(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        """Return the means of the metrics."""
        return {name: total / count for name, total in sums.items()}

    def accuracy(self, output: Any, content: Any) -> None:
        """Return None: a task need not have right answers."""


@contextmanager
def _failing(part: str) -> Iterator[None]:
    """Raise DataError for any error in a block, where a part of the user's task runs."""
    try:
        yield
    except Exception as error:  # the user's code may raise anything
        raise DataError(f"the {part} of the task cannot be computed: {type(error).__name__}: {error}") from error


@contextmanager
def _labels_fit() -> Iterator[None]:
    """Raise DataError where a label of a block is beyond the network's classes."""
    try:
        yield
    except IndexError as error:
        raise DataError(f"the labels and the network's classes do not fit: {first_line(error)}") from error


def _checked_name(name: object) -> str:
    """Return the name of a metric.

    Raises:
        DataError: no metric can have it.
    """
    if not isinstance(name, str) or not name or not name.isprintable() or "=" in name or name in RESERVED:
        raise DataError(f"a metric of the task has the name {name!r}: give another, as in {{'iou': 0.8}}")
    return name


def _number(name: str, value: object) -> float:
    """Return a metric as a number.

    Raises:
        DataError: it is none.
    """
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value)
    try:
        if isinstance(value, Tensor | str):
            raise TypeError
        return float(value)  # type: ignore[arg-type]  # whatever the user's code returns
    except (TypeError, ValueError) as error:
        raise DataError(f"the metric {name} of the task is {described(value)}, not one number; {FORM}") from error
