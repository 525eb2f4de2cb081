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


class Observer(Protocol):
    """What a stage tells while it works."""

    def note(self, text: str) -> None:
        """Something that a person should know, in one line."""

    def started(self, steps: int, history: Sequence[EpochRecord] = ()) -> None:
        """Training will take this many steps in all; it goes on after these epochs."""

    def stepped(self, done: int, loss: float, accuracy: float) -> None:
        """So many steps are done; loss and accuracy (0 to 1) are means over the latest batches."""

    def finished_epoch(self, record: EpochRecord) -> None:
        """An epoch is over."""

    def weights(self, epoch: int, tensors: "Mapping[str, np.ndarray]") -> None:
        """The weights that the network uses after so many epochs; each is read when asked for."""

    def started_bytes(self, total: int) -> None:
        """So many bytes of tensors are about to be encoded, decoded or compared."""

    def advanced(self, nbytes: int) -> None:
        """So many more of them are done."""

    def finished(self) -> None:
        """What was started is over, well or not."""


class Silent:
    """An observer that shows nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def started(self, steps: int, history: Sequence[EpochRecord] = ()) -> None:
        """Show nothing."""

    def stepped(self, done: int, loss: float, accuracy: float) -> None:
        """Show nothing."""

    def finished_epoch(self, record: EpochRecord) -> None:
        """Show nothing."""

    def weights(self, epoch: int, tensors: "Mapping[str, np.ndarray]") -> None:
        """Show nothing."""

    def started_bytes(self, total: int) -> None:
        """Show nothing."""

    def advanced(self, nbytes: int) -> None:
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

    def started(self, steps: int, history: Sequence[EpochRecord] = ()) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.started(steps, history)

    def stepped(self, done: int, loss: float, accuracy: float) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.stepped(done, loss, accuracy)

    def finished_epoch(self, record: EpochRecord) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.finished_epoch(record)

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
        self._unshared = unshared

    def following(self, record: EpochRecord) -> EpochRecord:
        """An epoch of this training as one of the stage."""
        return replace(record, epoch=len(self._before) + record.epoch)

    def started(self, steps: int, history: Sequence[EpochRecord] = ()) -> None:
        """Tell of the epochs before as well."""
        super().started(steps, [*self._before, *map(self.following, history)])

    def finished_epoch(self, record: EpochRecord) -> None:
        """Tell of it by its number in the stage."""
        super().finished_epoch(self.following(record))

    def weights(self, epoch: int, tensors: "Mapping[str, np.ndarray]") -> None:
        """Tell of them; those at the beginning have been told of where a training before has left them."""
        if epoch:
            super().weights(len(self._before) + epoch, tensors)
        elif not self._before:
            super().weights(0, self._unshared)
