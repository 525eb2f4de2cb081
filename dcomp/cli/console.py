"""Print results on standard output; notes, a line for each epoch and a progress bar on standard error."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import get_terminal_size

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

from dcomp.progress.measurement import LOSS
from dcomp.progress.observer import ChosenEpoch, EpochRecord, Observer
from dcomp.reporting.text import printable
from dcomp.system.ranks import IS_FIRST

NARROWEST_HELP = 40
"""Columns of help pages at least; in fewer, words break and options vanish."""

NARROWEST_BAR = 8
"""Columns of a progress bar at least."""

TIME_WIDTH = len("0:00:00")


class Terminal(Observer):
    """An observer that prints notes and epochs, and shows the work in progress if standard error is a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._stage = self._activity = ""
        self._epoch = self._epochs = self._steps_per_epoch = 0

    def note(self, text: str) -> None:
        """Print a line; an error of standard error, like a full disk, takes no result away."""
        with suppress(OSError):
            self._console.print(printable(text, lines=True), markup=False)

    def stage(self, name: str) -> None:
        """Show the name of the stage before all that follows."""
        self._stage, self._activity = name, ""

    def activity(self, text: str) -> None:
        """Show what is being done, and for how many seconds."""
        self._activity = text
        self._show_line(SpinnerColumn(), _text("{task.description}"), TimeElapsedColumn(), total=None, head=text)

    def started(self, steps: int, history: Sequence[EpochRecord] = (), epochs: int = 0) -> None:
        """Show a bar for all epochs, or for other steps where there are no epochs."""
        self._epoch, self._epochs = len(history) + 1, epochs
        self._steps_per_epoch = steps // epochs if epochs else steps
        columns = (
            _text("{task.description}"),
            _bar(),
            _text("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
        )
        self._show_line(*columns, total=steps, head=self._place())

    def finished_steps(self, count: int, loss: float, accuracy: float | None) -> None:
        """Move the bar."""
        if self._progress is not None:
            batch = count - (self._epoch - 1) * self._steps_per_epoch
            counted = f"{'batch ' if self._epochs else ''}{batch}/{self._steps_per_epoch}"
            error = () if accuracy is None else (f"error {100 * (1 - accuracy):.1f} %",)
            figures = (counted, f"loss {loss:.3f}", *error)
            self._progress.update(self._task, completed=count, figures=self._fitting(figures))

    def finished_epoch(self, record: EpochRecord) -> None:
        """Print the epoch in a line that stays."""
        loss, judged, judge = record.val_loss, record.val_judged, record.judge
        validation = "" if loss is None else f", validation loss {loss:.4f}"
        if judged is not None and judge.metric != LOSS:
            validation += f", {judge.short_title} {judge.text(judged)}"
        self.note(f"epoch {record.epoch}: loss {record.train_loss:.4f}{validation}")
        self._epoch = min(record.epoch + 1, self._epochs)
        if self._progress is not None:
            self._progress.update(self._task, description=self._named(self._place()))

    def chose_epoch(self, choice: ChosenEpoch) -> None:
        """Print which epoch is kept, why, and a warning if there is one."""
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
        """Show a bar for the points of a sweep."""
        columns = _text("{task.completed} of {task.total} points"), _bar(), _text("{task.description}", ratio=3)
        self._show_line(*columns, TimeElapsedColumn(), total=total, head="")

    def finished_points(self, count: int, running: Sequence[str]) -> None:
        """Move the bar, and name the points that run."""
        if self._progress is not None:
            description = f"running {', '.join(running)}" if running else ""
            self._progress.update(self._task, completed=count, description=description)

    def finished(self) -> None:
        """Remove the bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _show_line(self, *columns: ProgressColumn, total: int | None, head: str) -> None:
        """Show a line in place of the last one, if standard error is a terminal."""
        self.finished()
        if self._console.is_terminal:
            self._progress = Progress(
                *columns, console=self._console, transient=True, expand=total is not None, redirect_stdout=False
            )
            self._task = self._progress.add_task(self._named(head), total=total, figures="")
            self._progress.start()

    def _place(self) -> str:
        """Return the number of the epoch, or the activity where there are no epochs."""
        return f"epoch {self._epoch}/{self._epochs}" if self._epochs else self._activity

    def _fitting(self, figures: Sequence[str]) -> str:
        """Return the figures without the first ones, for which a narrow terminal has no room."""
        room = self._console.width - len(self._named(self._place())) - NARROWEST_BAR - TIME_WIDTH - 3
        texts = ["  ".join(figures[first:]) for first in range(len(figures))]
        return next((text for text in texts if len(text) <= room), texts[-1])

    def _named(self, text: str) -> str:
        """Return a text after the name of the stage."""
        return " ".join(part for part in (self._stage, text) if part)


def _text(template: str, *, ratio: int | None = None) -> TextColumn:
    """Return a column of plain text in one line, which loses its end if the terminal is too narrow."""
    return TextColumn(template, markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=ratio))


def _bar() -> BarColumn:
    """Return a bar that takes the width that is left."""
    return BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=NARROWEST_BAR))


_open_observers: list[Terminal] = []


def observer(quiet: bool) -> Observer:
    """Return the observer of a command: none if it is quiet, or if another process prints."""
    if quiet or not IS_FIRST:
        return Observer()
    _open_observers.append(Terminal())
    return _open_observers[-1]


@contextmanager
def cleared() -> Iterator[None]:
    """Remove the bar at the end of a block, also after an error."""
    try:
        yield
    finally:
        while _open_observers:
            _open_observers.pop().finished()


@contextmanager
def legible_help() -> Iterator[None]:
    """Run a block in which help pages have some columns at least, however narrow the terminal is."""
    columns = get_terminal_size().columns
    if columns >= NARROWEST_HELP and os.environ.get("COLUMNS") != "0":  # 0: unknown, which rich takes for a width
        yield
        return
    from typer import rich_utils

    before = rich_utils.MAX_WIDTH
    rich_utils.MAX_WIDTH = max(columns, NARROWEST_HELP)
    try:
        yield
    finally:
        rich_utils.MAX_WIDTH = before


def print_result(text: str) -> None:
    """Print a result on standard output; on a terminal, without control characters."""
    if IS_FIRST:
        sys.stdout.write(f"{printable(text, lines=True) if sys.stdout.isatty() else text}\n")


def print_path(path: Path) -> None:
    """Print the path of a result; in a pipe, as the bytes of its name, and never as what looks like an option."""
    text = f"./{path}" if str(path).startswith("-") else str(path)
    if sys.stdout.isatty():
        print_result(text)
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(text) + b"\n")
