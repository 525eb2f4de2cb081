import csv
from dataclasses import replace

import pytest

from dcomp.errors import OutputError
from dcomp.progress.csv_log import Journal
from dcomp.progress.measurement import TOP1_ERROR
from dcomp.progress.observer import EpochRecord

METRICS = {"top1_error": 1.5, "top5_error": 0.1, "loss": 0.25}


def record(epoch):
    return EpochRecord(epoch, 0.5, METRICS, TOP1_ERROR, 0.02, 0.9, {"fc1.weight": 0.9}, 1.23456789)


def unvalidated(epoch):
    return replace(record(epoch), val_metrics=dict.fromkeys(METRICS))


def rows(path):
    return list(csv.DictReader(path.open()))


def test_each_epoch_appends_a_row(tmp_path):
    journal = Journal(tmp_path / "log.csv")
    journal.started(100)
    assert rows(tmp_path / "log.csv") == []
    journal.finished_epoch(record(1))
    journal.finished_epoch(record(2))
    assert [row["epoch"] for row in rows(tmp_path / "log.csv")] == ["1", "2"]
    assert rows(tmp_path / "log.csv")[0] == {
        "epoch": "1",
        "train_loss": "0.5",
        "val_loss": "0.25",
        "val_error": "1.5",
        "val_top5_error": "0.1",
        "lr": "0.02",
        "sparsity": "0.9",
        "seconds": "1.23457",
    }


def test_missing_figures_are_empty(tmp_path):
    Journal(tmp_path / "log.csv").started(1, [unvalidated(1)])
    assert (tmp_path / "log.csv").read_text().splitlines()[1] == "1,0.5,,,,0.02,0.9,1.23457"


def test_a_resumed_log_has_the_epochs_before(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("what was logged after the last save\n")
    journal = Journal(path)
    journal.started(100, [record(1), record(2)])
    journal.finished_epoch(record(3))
    assert [row["epoch"] for row in rows(path)] == ["1", "2", "3"]


def test_an_unwritable_log_is_one_error(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        Journal(tmp_path / "no" / "log.csv").started(1)
