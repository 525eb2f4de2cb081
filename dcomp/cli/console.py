"""What a person sees while a command works: notes and a progress bar, on standard error."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from dcomp.observer import EpochRecord, Silent
from dcomp.processes import FIRST
from dcomp.reporting.text import shown

if TYPE_CHECKING:
    import numpy as np


class Terminal:
    """An observer that shows notes and, where standard error is a terminal, a bar; elsewhere a line an epoch."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._error = ""

    def note(self, text: str) -> None:
        """Print a line."""
        self._console.print(shown(text, lines=True), markup=False)

    def started(self, steps: int, history: Sequence[EpochRecord] = ()) -> None:
        """Show the bar."""
        self._error = ""
        if self._console.is_terminal:
            self._progress = Progress(
                BarColumn(),
                TextColumn("{task.percentage:3.0f} %  {task.fields[figures]}"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._progress.add_task("", total=steps, figures="")
            self._progress.start()

    def stepped(self, done: int, loss: float, accuracy: float) -> None:
        """Move the bar."""
        if self._progress is not None:
            figures = f"loss {loss:.3f}  accuracy {100 * accuracy:.1f} %{self._error}"
            self._progress.update(self._task, completed=done, figures=figures)

    def finished_epoch(self, record: EpochRecord) -> None:
        """Remember the validation error for the bar, or print the epoch."""
        loss, error = record.val_loss, record.val_error
        self._error = "" if error is None else f"  validation error {error:.2f} %"
        if self._progress is None:
            validation = "" if error is None else f", validation loss {loss:.4f}, error {error:.2f} %"
            self.note(f"epoch {record.epoch}: loss {record.train_loss:.4f}{validation}")

    def weights(self, epoch: int, tensors: "Mapping[str, np.ndarray]") -> None:
        """Show nothing."""

    def started_bytes(self, total: int) -> None:
        """Show a bar in bytes."""
        if self._console.is_terminal:
            self._progress = Progress(
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._progress.add_task("", total=total)
            self._progress.start()

    def advanced(self, nbytes: int) -> None:
        """Move the bar."""
        if self._progress is not None:
            self._progress.update(self._task, advance=nbytes)

    def finished(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def observer(quiet: bool) -> Terminal | Silent:
    """Who watches a command."""
    return Terminal() if FIRST and not quiet else Silent()


def say(text: str) -> None:
    """Print a result on standard output, as it is; on a terminal, without control characters."""
    if FIRST:
        sys.stdout.write(f"{shown(text, lines=True) if sys.stdout.isatty() else text}\n")
