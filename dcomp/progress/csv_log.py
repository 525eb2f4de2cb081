"""A CSV file with one row for each epoch."""

import csv
from collections.abc import Sequence
from pathlib import Path

from dcomp.errors import OutputError
from dcomp.progress.observer import EpochRecord, Observer

COLUMNS = ("epoch", "train_loss", "val_loss", "val_error", "val_top5_error", "lr", "sparsity", "seconds")
"""Losses in nats, errors in percent, sparsity from 0 to 1; a missing figure is empty."""


class Journal(Observer):
    """An observer that writes a row as soon as an epoch is over."""

    def __init__(self, path: Path) -> None:
        """Take the path of the file, which is created when training begins."""
        self._path = path

    def started(self, steps: int, history: Sequence[EpochRecord] = (), epochs: int = 0) -> None:
        """Write the names of the columns, and the epochs that this training continues from."""
        self._write("w", [COLUMNS, *map(_row, history)])

    def finished_epoch(self, record: EpochRecord) -> None:
        """Append a row."""
        self._write("a", [_row(record)])

    def _write(self, mode: str, rows: Sequence[Sequence[object]]) -> None:
        try:
            with self._path.open(mode, newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(rows)
        except OSError as error:
            raise OutputError(f"cannot write {self._path}: {error.strerror}") from error


def _row(record: EpochRecord) -> list[object]:
    return [f"{value:.6g}" if isinstance(value := getattr(record, name), float) else value for name in COLUMNS]
