"""A CSV file with one row for each epoch."""

import csv
from collections.abc import Sequence
from pathlib import Path

from dcomp.errors import OutputError
from dcomp.progress.observer import EpochRecord, Observer


class Journal(Observer):
    """An observer that writes a row as soon as an epoch is over.

    Losses are in nats, errors in percent, sparsity from 0 to 1; a missing figure is empty.
    """

    def __init__(self, path: Path) -> None:
        """Take the path of the file, which is created when training begins."""
        self._path = path

    def started(self, steps: int, history: Sequence[EpochRecord] = (), epochs: int = 0) -> None:
        """Begin the file with the epochs that this training continues from."""
        self._write("w", history)

    def finished_epoch(self, record: EpochRecord) -> None:
        """Append a row."""
        self._write("a", [record])

    def _write(self, mode: str, records: Sequence[EpochRecord]) -> None:
        """Write a row for each record; above the first row of the file, the names of the columns."""
        try:
            with self._path.open(mode, newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                if records and not file.tell():
                    writer.writerow(records[0].figures())
                writer.writerows(map(_row, records))
        except OSError as error:
            raise OutputError(f"cannot write {self._path}: {error.strerror}") from error


def _row(record: EpochRecord) -> list[object]:
    return [f"{value:.6g}" if isinstance(value, float) else value for value in record.figures().values()]
