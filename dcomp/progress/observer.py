"""Who watches a stage at work: a progress bar, a log, or nobody."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np  # the command line has observers, and starts without numpy

IN_METADATA = ("epoch", "train_loss", "val_loss", "val_error")


@dataclass(frozen=True)
class EpochRecord:
    """What an epoch came to.

    Attributes:
        epoch: its number, from 1.
        train_loss, val_loss: mean cross-entropies in nats.
        val_error, val_top5_error: errors on the validation split in percent; None without one, like `val_loss`.
        lr: the learning rate of its last step.
        sparsity: the fraction of zeros in all weights that are no biases.
        layers: the same by tensor.
        seconds: how long it took, validation included.
    """

    epoch: int
    train_loss: float
    val_loss: float | None
    val_error: float | None
    val_top5_error: float | None
    lr: float
    sparsity: float
    layers: Mapping[str, float]
    seconds: float

    def rounded(self) -> dict[str, float]:
        """What metadata keep of it, to four decimals: the same in every run with the same seed."""
        known = {key: getattr(self, key) for key in IN_METADATA}
        return {key: round(value, 4) for key, value in known.items() if value is not None}


FEW = 100
"""Validation examples below which one of them is more than a percentage point of the error."""


@dataclass(frozen=True)
class Kept:
    """The epoch that a training ends with, and what it was chosen by.

    Attributes:
        epoch: its number; 0: the network as it was before the first.
        epochs: how many the training had.
        first: the first epoch that could be kept: in pruning, the first after the last move of the masks.
        val_error: its error on the validation examples in percent; None without any.
        val_examples: how many there are.
        tied: whether other epochs have the same error, and the loss decided.
    """

    epoch: int
    epochs: int
    first: int
    val_error: float | None
    val_examples: int
    tied: bool

    @property
    def reason(self) -> str:
        """Which epoch it is, and why, in one line."""
        if self.val_error is None:
            return f"epoch {self.epoch} of {self.epochs} kept: the last, as there are no validation examples"
        if not self.epoch:
            return f"no epoch kept: the network before has the lowest validation error {self.val_error:.2f} %"
        among = f" of epochs {self.first} to {self.epochs}" if self.first > 1 else ""
        by_loss = ", then loss" if self.tied else ""
        kept = f"epoch {self.epoch} of {self.epochs} kept"
        return f"{kept}: lowest validation error {self.val_error:.2f} %{among}{by_loss}"

    @property
    def warning(self) -> str | None:
        """What makes the choice doubtful, in one line: few examples."""
        if not 0 < self.val_examples < FEW or self.first == self.epochs:
            return None
        examples = "1 validation example" if self.val_examples == 1 else f"{self.val_examples} validation examples"
        return f"warning: only {examples} chose it (one is {100 / self.val_examples:.1f} %): raise --val-split"


class Observer(Protocol):
    """What a stage tells while it works."""

    def note(self, text: str) -> None:
        """Something that a person should know, in one line."""

    def stage(self, name: str) -> None:
        """A stage of this name begins; what is told from now on is about it."""

    def doing(self, what: str) -> None:
        """This is being done from now on, like `loading mnist`."""

    def started(self, steps: int, history: Sequence[EpochRecord] = (), epochs: int = 0) -> None:
        """Work will take so many steps in all; training has so many epochs, and goes on after those of the history."""

    def stepped(self, done: int, loss: float, accuracy: float) -> None:
        """So many steps are done; loss and accuracy (0 to 1) are means over the latest batches."""

    def finished_epoch(self, record: EpochRecord) -> None:
        """An epoch is over."""

    def kept(self, kept: Kept) -> None:
        """Training is over, and this is the epoch that it ends with."""

    def weights(self, epoch: int, tensors: "Mapping[str, np.ndarray]") -> None:
        """The weights that the network uses after so many epochs; each is read when asked for."""

    def started_bytes(self, total: int) -> None:
        """So many bytes are about to be worked on."""

    def advanced(self, nbytes: int) -> None:
        """So many more of them are done."""

    def started_points(self, total: int) -> None:
        """A sweep of so many points begins."""

    def points(self, done: int, running: Sequence[str]) -> None:
        """So many points are done or have failed, and these are running."""

    def finished(self) -> None:
        """What was started is over, well or not."""


class Silent:
    """An observer that shows nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def stage(self, name: str) -> None:
        """Show nothing."""

    def doing(self, what: str) -> None:
        """Show nothing."""

    def started(self, steps: int, history: Sequence[EpochRecord] = (), epochs: int = 0) -> None:
        """Show nothing."""

    def stepped(self, done: int, loss: float, accuracy: float) -> None:
        """Show nothing."""

    def finished_epoch(self, record: EpochRecord) -> None:
        """Show nothing."""

    def kept(self, kept: Kept) -> None:
        """Show nothing."""

    def weights(self, epoch: int, tensors: "Mapping[str, np.ndarray]") -> None:
        """Show nothing."""

    def started_bytes(self, total: int) -> None:
        """Show nothing."""

    def advanced(self, nbytes: int) -> None:
        """Show nothing."""

    def started_points(self, total: int) -> None:
        """Show nothing."""

    def points(self, done: int, running: Sequence[str]) -> None:
        """Show nothing."""

    def finished(self) -> None:
        """Show nothing."""


class Together:
    """Several observers as one."""

    def __init__(self, *observers: Observer) -> None:
        """Take those who watch, in the order in which they are told."""
        self._observers = observers

    def note(self, text: str) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.note(text)

    def stage(self, name: str) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.stage(name)

    def doing(self, what: str) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.doing(what)

    def started(self, steps: int, history: Sequence[EpochRecord] = (), epochs: int = 0) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.started(steps, history, epochs)

    def stepped(self, done: int, loss: float, accuracy: float) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.stepped(done, loss, accuracy)

    def finished_epoch(self, record: EpochRecord) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.finished_epoch(record)

    def kept(self, kept: Kept) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.kept(kept)

    def weights(self, epoch: int, tensors: "Mapping[str, np.ndarray]") -> None:
        """Tell all."""
        for observer in self._observers:
            observer.weights(epoch, tensors)

    def started_bytes(self, total: int) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.started_bytes(total)

    def advanced(self, nbytes: int) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.advanced(nbytes)

    def started_points(self, total: int) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.started_points(total)

    def points(self, done: int, running: Sequence[str]) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.points(done, running)

    def finished(self) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.finished()


class Continued(Together):
    """Who watches the training of shared weights in a stage that may have trained before it shared them.

    Its epochs are told as those that follow the ones before; at its beginning, the weights as they were unshared.
    """

    def __init__(self, observer: Observer, before: Sequence[EpochRecord], unshared: "Mapping[str, np.ndarray]") -> None:
        """Take who watches, the epochs before, and the weights that were shared after those."""
        super().__init__(observer)
        self._before = before
        self._steps_before = 0
        self._unshared = unshared

    def following(self, record: EpochRecord) -> EpochRecord:
        """An epoch of this training as one of the stage."""
        return replace(record, epoch=len(self._before) + record.epoch)

    def started(self, steps: int, history: Sequence[EpochRecord] = (), epochs: int = 0) -> None:
        """Tell of the epochs before as well, and of their steps."""
        self._steps_before = len(self._before) * steps // max(epochs, 1)
        told = [*self._before, *map(self.following, history)]
        super().started(self._steps_before + steps, told, len(self._before) + epochs)

    def stepped(self, done: int, loss: float, accuracy: float) -> None:
        """Count the steps before as well."""
        super().stepped(self._steps_before + done, loss, accuracy)

    def finished_epoch(self, record: EpochRecord) -> None:
        """Tell of it by its number in the stage."""
        super().finished_epoch(self.following(record))

    def kept(self, kept: Kept) -> None:
        """Tell of it by its number in the stage."""
        before = len(self._before)
        epoch = before + kept.epoch if kept.epoch else 0
        super().kept(replace(kept, epoch=epoch, epochs=before + kept.epochs, first=before + kept.first))

    def weights(self, epoch: int, tensors: "Mapping[str, np.ndarray]") -> None:
        """Tell of them; those at the beginning have been told of where a training before has left them."""
        if epoch:
            super().weights(len(self._before) + epoch, tensors)
        elif not self._before:
            super().weights(0, self._unshared)
