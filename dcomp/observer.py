"""Who watches a stage at work: a progress bar, a log, or nobody."""

from dataclasses import asdict, dataclass
from typing import Protocol


@dataclass(frozen=True)
class EpochRecord:
    """What an epoch came to: mean cross-entropies in nats, the validation split's top-1 error in percent."""

    epoch: int
    train_loss: float
    val_loss: float
    val_error: float

    def rounded(self) -> dict[str, float]:
        """The record as metadata keeps it, to four decimals."""
        return {key: round(value, 4) for key, value in asdict(self).items()}


class Observer(Protocol):
    """What a stage tells while it works."""

    def note(self, text: str) -> None:
        """Something that a person should know, in one line."""

    def started(self, steps: int) -> None:
        """Training begins and will take this many steps."""

    def stepped(self, done: int, loss: float, accuracy: float) -> None:
        """So many steps are done; loss and accuracy (0 to 1) are means over the latest batches."""

    def finished_epoch(self, record: EpochRecord) -> None:
        """An epoch is over."""

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

    def started(self, steps: int) -> None:
        """Show nothing."""

    def stepped(self, done: int, loss: float, accuracy: float) -> None:
        """Show nothing."""

    def finished_epoch(self, record: EpochRecord) -> None:
        """Show nothing."""

    def started_bytes(self, total: int) -> None:
        """Show nothing."""

    def advanced(self, nbytes: int) -> None:
        """Show nothing."""

    def finished(self) -> None:
        """Show nothing."""
