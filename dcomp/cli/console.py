"""What a person sees while a command works: notes, a line an epoch and a progress bar, on standard error."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column

from dcomp.progress.observer import ChosenEpoch, EpochRecord, Observer
from dcomp.reporting.text import printable
from dcomp.system.ranks import IS_FIRST


SHORTEST_BAR = 8


class Terminal(Observer):
    """An observer that shows notes and epochs, and what is being done where standard error is a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._stage = self._activity = ""
        self._epoch = self._epochs = self._steps_per_epoch = 0

    def note(self, text: str) -> None:
        """Print a line, if standard error takes it: a full disk beneath it takes no result away."""
        with suppress(OSError):
            self._console.print(printable(text, lines=True), markup=False)

    def stage(self, name: str) -> None:
        """Name the stage in front of what is shown from now on."""
        self._stage, self._activity = name, ""

    def activity(self, text: str) -> None:
        """Show it, with the seconds that it takes."""
        self._activity = text
        self._show_line(SpinnerColumn(), _text("{task.description}"), TimeElapsedColumn(), total=None, head=text)

    def started(self, steps: int, history: Sequence[EpochRecord] = (), epochs: int = 0) -> None:
        """Show a bar, of all epochs if there are some."""
        self._epoch, self._epochs = len(history) + 1, epochs
        self._steps_per_epoch = steps // epochs if epochs else steps
        columns = (
            _text("{task.description}"),
            _bar(),
            _text("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
        )
        self._show_line(*columns, total=steps, head=self._place())

    def finished_steps(self, count: int, loss: float, accuracy: float) -> None:
        """Move the bar."""
        if self._progress is not None:
            batch = count - (self._epoch - 1) * self._steps_per_epoch
            counted = f"{'batch ' if self._epochs else ''}{batch}/{self._steps_per_epoch}"
            figures = f"{counted}  loss {loss:.3f}  error {100 * (1 - accuracy):.1f} %"
            self._progress.update(self._task, completed=count, figures=figures)

    def finished_epoch(self, record: EpochRecord) -> None:
        """Print the epoch in a line that stays."""
        loss, error = record.val_loss, record.val_error
        validation = "" if error is None else f", validation loss {loss:.4f}, error {error:.2f} %"
        self.note(f"epoch {record.epoch}: loss {record.train_loss:.4f}{validation}")
        self._epoch = min(record.epoch + 1, self._epochs)
        if self._progress is not None:
            self._progress.update(self._task, description=self._named(self._place()))

    def chose_epoch(self, choice: ChosenEpoch) -> None:
        """Print which epoch it is, why, and what speaks against that."""
        self.note(choice.reason)
        if choice.warning is not None:
            self.note(choice.warning)

    def started_bytes(self, total: int) -> None:
        """Show a bar in bytes."""
        columns = _bar(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(compact=True)
        self._show_line(_text("{task.description}"), *columns, total=total, head=self._activity)

    def finished_bytes(self, nbytes: int) -> None:
        """Move the bar."""
        if self._progress is not None:
            self._progress.update(self._task, advance=nbytes)

    def started_points(self, total: int) -> None:
        """Show a bar of the points of a sweep."""
        columns = _text("{task.completed} of {task.total} points"), _bar(), _text("{task.description}", ratio=3)
        self._show_line(*columns, TimeElapsedColumn(), total=total, head="")

    def finished_points(self, count: int, running: Sequence[str]) -> None:
        """Move the bar, and name what runs."""
        if self._progress is not None:
            description = f"running {', '.join(running)}" if running else ""
            self._progress.update(self._task, completed=count, description=description)

    def finished(self) -> None:
        """Take away what is shown."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _show_line(self, *columns: ProgressColumn, total: int | None, head: str) -> None:
        """Show one line in place of the one before; where no terminal is, nothing."""
        self.finished()
        if self._console.is_terminal:
            self._progress = Progress(
                *columns, console=self._console, transient=True, expand=total is not None, redirect_stdout=False
            )
            self._task = self._progress.add_task(self._named(head), total=total, figures="")
            self._progress.start()

    def _place(self) -> str:
        """Say where in its epochs a training is; what else counts steps has none."""
        return f"epoch {self._epoch}/{self._epochs}" if self._epochs else self._activity

    def _named(self, text: str) -> str:
        """Put the stage's name in front."""
        return " ".join(part for part in (self._stage, text) if part)


def _text(template: str, *, ratio: int | None = None) -> TextColumn:
    """Make a column of plain text in one line, which loses its end where the terminal is narrow."""
    return TextColumn(template, markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=ratio))


def _bar() -> BarColumn:
    """Make a bar that takes the room that is left."""
    return BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=SHORTEST_BAR))


_open_observers: list[Terminal] = []


def observer(quiet: bool) -> Observer:
    """Choose who watches a command."""
    if quiet or not IS_FIRST:
        return Observer()
    _open_observers.append(Terminal())
    return _open_observers[-1]


@contextmanager
def cleared() -> Iterator[None]:
    """Run a block after which no bar is left on the terminal, also where an error ends it."""
    try:
        yield
    finally:
        while _open_observers:
            _open_observers.pop().finished()


def print_result(text: str) -> None:
    """Print a result on standard output, as it is; on a terminal, without control characters."""
    if IS_FIRST:
        sys.stdout.write(f"{printable(text, lines=True) if sys.stdout.isatty() else text}\n")
