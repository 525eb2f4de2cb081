"""Observers of a stage while it works: the events of a stage, and observers that pass events on to others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from dcomp.progress.measurement import LOSS, PERCENTAGES, TOP1_ERROR, Judge

if TYPE_CHECKING:
    import numpy as np  # the command line has observers, and starts without numpy

COLUMNS = {TOP1_ERROR.metric: "val_error"}
"""Names of metrics on the validation examples in logs and metadata; others are `val_NAME`."""

FEW_VAL_EXAMPLES = 100
"""Validation examples below which one of them is more than a percentage point of the error."""


@dataclass(frozen=True)
class EpochRecord:
    """The figures of one epoch.

    Attributes:
        epoch: its number, from 1.
        train_loss: the mean loss on the training examples; in nats for classification.
        val_metrics: means on the validation examples by name, `loss` among them; None without such examples.
        judge: one of these metrics.
        lr: the learning rate of its last step.
        sparsity: the fraction of zeros in all weights but the biases.
        layers: the sparsity of each tensor by name.
        seconds: how long it took, validation included.
    """

    epoch: int
    train_loss: float
    val_metrics: Mapping[str, float | None]
    judge: Judge
    lr: float
    sparsity: float
    layers: Mapping[str, float]
    seconds: float

    @property
    def val_loss(self) -> float | None:
        """Return the loss on the validation examples."""
        return self.val_metrics[LOSS]

    @property
    def val_judged(self) -> float | None:
        """Return the value of the judge on the validation examples."""
        return self.val_metrics[self.judge.metric]

    def figures(self) -> dict[str, float | None]:
        """Return all figures but those of layers, by the names that logs have for them."""
        others = {column_of(name): value for name, value in self.val_metrics.items() if name != LOSS}
        measured = {"epoch": self.epoch, "train_loss": self.train_loss, "val_loss": self.val_loss, **others}
        return {**measured, "lr": self.lr, "sparsity": self.sparsity, "seconds": self.seconds}

    def rounded(self) -> dict[str, float]:
        """Return the figures for metadata, to four decimals: the same in every run with the same seed."""
        figures = self.figures()
        names = dict.fromkeys(("epoch", "train_loss", "val_loss", column_of(self.judge.metric)))
        return {name: round(value, 4) for name in names if (value := figures[name]) is not None}

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain data, for `of`."""
        return {**vars(self), "judge": vars(self.judge)}

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Self:
        """Return what `as_dict` returned."""
        return cls(**{**recorded, "judge": Judge(**recorded["judge"])})


def column_of(metric: str) -> str:
    """Return the name that logs and metadata have for a metric on the validation examples."""
    return COLUMNS.get(metric, f"val_{metric}")


@dataclass(frozen=True)
class ChosenEpoch:
    """The epoch that a training ends with, and the value of the judge that chose it.

    Attributes:
        epoch: its number; 0 for the network before the first epoch.
        epochs: how many the training had.
        first: the first epoch that could be chosen: in pruning, the first after the last change of the masks.
        val_judged: the value of the judge on the validation examples; None without any.
        val_examples: how many validation examples there are.
        tied: whether other epochs have the same value, and the loss decided.
        judge: of the networks.
    """

    epoch: int
    epochs: int
    first: int
    val_judged: float | None
    val_examples: int
    tied: bool
    judge: Judge = TOP1_ERROR

    @property
    def reason(self) -> str:
        """Say which epoch was chosen, and why, in one line."""
        if self.val_judged is None:
            return f"epoch {self.epoch} of {self.epochs} kept: the last, as there are no validation examples"
        extreme = "lowest" if self.judge.lower_is_better else "highest"
        best = f"{extreme} validation {self.judge.short_title} {self.judge.text(self.val_judged)}"
        if not self.epoch:
            return f"no epoch kept: the network before has the {best}"
        among = f" of epochs {self.first} to {self.epochs}" if self.first > 1 else ""
        by_loss = ", then loss" if self.tied else ""
        return f"epoch {self.epoch} of {self.epochs} kept: {best}{among}{by_loss}"

    @property
    def warning(self) -> str | None:
        """Warn in one line where few examples chose the epoch; None where the choice is sound."""
        if not 0 < self.val_examples < FEW_VAL_EXAMPLES or self.first == self.epochs:
            return None
        examples = "1 validation example" if self.val_examples == 1 else f"{self.val_examples} validation examples"
        share = f" (one is {100 / self.val_examples:.1f} %)" if self.judge.metric in PERCENTAGES else ""
        return f"warning: only {examples} chose it{share}: raise --val-split, or add examples"

    def as_dict(self) -> dict[str, Any]:
        """Return the choice as plain data."""
        names = {"val_judged": column_of(self.judge.metric)}
        figures = {names.get(name, name): value for name, value in vars(self).items() if name != "judge"}
        return {**figures, **self.judge.as_dict()}


class Observer:
    """The events of a stage. Each method does nothing here: override those that you need."""

    def note(self, text: str) -> None:
        """Handle a note to the user, in one line."""

    def stage(self, name: str) -> None:
        """Handle the start of a stage; the events after it belong to this stage."""

    def activity(self, text: str) -> None:
        """Handle a new activity of the stage, like `loading mnist`."""

    def started(self, steps: int, history: Sequence[EpochRecord] = (), epochs: int = 0) -> None:
        """Handle the start of work.

        Args:
            steps: in all.
            history: epochs that are done already, after which training continues.
            epochs: in all, if this is training.
        """

    def finished_steps(self, count: int, loss: float, accuracy: float | None) -> None:
        """Handle the end of a step.

        Args:
            count: steps that are done, in all.
            loss: mean over the latest batches.
            accuracy: mean over the latest batches, from 0 to 1; None for other tasks than classification.
        """

    def finished_epoch(self, record: EpochRecord) -> None:
        """Handle the end of an epoch."""

    def chose_epoch(self, choice: ChosenEpoch) -> None:
        """Handle the end of training, and the choice of the epoch whose weights are kept."""

    def weights(self, epoch: int, tensors: "Mapping[str, np.ndarray]") -> None:
        """Handle the weights after the number `epoch` of epochs; a tensor is read when it is indexed."""

    def started_bytes(self, total: int) -> None:
        """Handle the start of work on `total` bytes."""

    def finished_bytes(self, nbytes: int) -> None:
        """Handle the end of work on `nbytes` more bytes."""

    def started_points(self, total: int) -> None:
        """Handle the start of a sweep of `total` points."""

    def finished_points(self, count: int, running: Sequence[str]) -> None:
        """Handle a change in a sweep: `count` points in all are done or have failed, and the points `running` run."""

    def finished(self) -> None:
        """Handle the end of the work, whether it succeeded or failed."""


SILENT = Observer()
"""The observer of work that nobody watches."""


class Together(Observer):
    """Several observers as one: each event goes to all of them, in order."""

    def __init__(self, *observers: Observer) -> None:
        """Take the observers."""
        self._observers = observers


def _forward(event: str) -> Callable[..., None]:
    """Make a method of `Together` that passes an event on."""

    def method(self: Together, *arguments: Any, **options: Any) -> None:
        for observer in self._observers:
            getattr(observer, event)(*arguments, **options)

    return method


for _event in [name for name in vars(Observer) if not name.startswith("_")]:
    setattr(Together, _event, _forward(_event))


class SecondPhase(Together):
    """An observer of the second training of a stage; it adds the epochs and steps of the first training to the numbers.

    The first training may have had no epochs; then the weights before any training are reported unshared.
    """

    def __init__(self, observer: Observer, first: Sequence[EpochRecord], unshared: "Mapping[str, np.ndarray]") -> None:
        """Take the observer, and the epochs and last weights of the first training; these are not shared yet."""
        super().__init__(observer)
        self._first = first
        self._first_steps = 0
        self._unshared = unshared

    def renumbered(self, record: EpochRecord) -> EpochRecord:
        """Return an epoch of this training as one of the stage."""
        return replace(record, epoch=len(self._first) + record.epoch)

    def started(self, steps: int, history: Sequence[EpochRecord] = (), epochs: int = 0) -> None:
        """Add the epochs of the first training, and their steps."""
        self._first_steps = len(self._first) * steps // max(epochs, 1)
        history = [*self._first, *map(self.renumbered, history)]
        super().started(self._first_steps + steps, history, len(self._first) + epochs)

    def finished_steps(self, count: int, loss: float, accuracy: float | None) -> None:
        """Add the steps of the first training."""
        super().finished_steps(self._first_steps + count, loss, accuracy)

    def finished_epoch(self, record: EpochRecord) -> None:
        """Renumber the epoch."""
        super().finished_epoch(self.renumbered(record))

    def chose_epoch(self, choice: ChosenEpoch) -> None:
        """Renumber the epoch."""
        first = len(self._first)
        epoch = first + choice.epoch if choice.epoch else 0
        super().chose_epoch(replace(choice, epoch=epoch, epochs=first + choice.epochs, first=first + choice.first))

    def weights(self, epoch: int, tensors: "Mapping[str, np.ndarray]") -> None:
        """Renumber the epoch; report the unshared weights at the beginning if the first training had no epochs."""
        if epoch:
            super().weights(len(self._first) + epoch, tensors)
        elif not self._first:
            super().weights(0, self._unshared)
