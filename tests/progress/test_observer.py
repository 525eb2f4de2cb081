"""Tests of observers, and of the line that says which epoch was chosen."""

from dataclasses import replace
from unittest.mock import Mock, call

import pytest

from dcomp.progress.measurement import TOP1_ERROR, Judge
from dcomp.progress.observer import ChosenEpoch, EpochRecord, Observer, SecondPhase, Together

CHOICE = ChosenEpoch(7, 10, 1, 1.234, 4800, tied=False)

METRICS = {"top1_error": 1.5, "top5_error": 0.1, "loss": 0.25}


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        (CHOICE, "epoch 7 of 10 kept: lowest validation error 1.23 %"),
        (
            replace(CHOICE, first=6, tied=True),
            "epoch 7 of 10 kept: lowest validation error 1.23 % of epochs 6 to 10, then loss",
        ),
        (replace(CHOICE, epoch=0), "no epoch kept: the network before has the lowest validation error 1.23 %"),
        (
            ChosenEpoch(10, 10, 1, None, 0, tied=False),
            "epoch 10 of 10 kept: the last, as there are no validation examples",
        ),
    ],
)
def test_reason_names_the_epoch_and_why(choice, reason):
    assert choice.reason == reason


def test_few_examples_give_a_warning():
    eight = "warning: only 8 validation examples chose it (one is 12.5 %): raise --val-split, or add examples"
    assert replace(CHOICE, val_examples=8).warning == eight
    assert replace(CHOICE, val_examples=8, judge=Judge("iou")).warning == eight.replace(" (one is 12.5 %)", "")
    assert replace(CHOICE, val_examples=99).warning is not None
    assert replace(CHOICE, val_examples=1).warning.startswith("warning: only 1 validation example chose")


@pytest.mark.parametrize(
    "choice",
    [
        replace(CHOICE, val_examples=100),
        ChosenEpoch(10, 10, 1, None, 0, tied=False),
        replace(CHOICE, val_examples=8, first=10),
    ],
    ids=["enough examples", "no examples", "no choice"],
)
def test_other_choices_have_no_warning(choice):
    assert choice.warning is None


class Events(Observer):
    def __init__(self):
        self.events = []

    def started(self, steps, history=(), epochs=0):
        self.events.append((steps, len(history), epochs))

    def finished_steps(self, count, loss, accuracy):
        self.events.append(count)

    def chose_epoch(self, choice):
        self.events.append((choice.epoch, choice.epochs, choice.first))


def test_an_observer_ignores_every_event():
    silent = Observer()
    silent.note("text")
    silent.started(3, epochs=1)
    silent.finished()
    assert vars(silent) == {}


def test_together_forwards_every_event():
    first, second = Mock(spec=Observer), Mock(spec=Observer)
    together = Together(first, second)
    names = [name for name in dir(Observer) if not name.startswith("_")]
    for name in names:
        getattr(together, name)(name, key=name)
    assert [getattr(call, name)(name, key=name) for name in names] == first.method_calls == second.method_calls


def test_a_second_phase_counts_on_from_the_first():
    record = EpochRecord(1, 0.5, METRICS, TOP1_ERROR, 0.02, 0.9, {}, 1.0)
    events = Events()
    phase = SecondPhase(events, [record, replace(record, epoch=2)], {})
    phase.started(30, [], 3)
    phase.finished_steps(5, 0.1, 0.9)
    phase.chose_epoch(ChosenEpoch(1, 3, 1, 1.0, 500, tied=False))
    phase.chose_epoch(ChosenEpoch(0, 3, 1, 1.0, 500, tied=False))
    assert events.events == [(50, 2, 5), 25, (3, 5, 3), (0, 5, 3)]
