"""What is said of the epoch that a training ends with."""

from dataclasses import replace

import pytest

from dcomp.progress.observer import Continued, EpochRecord, Kept, Silent

KEPT = Kept(7, 10, 1, 1.234, 4800, tied=False)


@pytest.mark.parametrize(
    ("kept", "reason"),
    [
        (KEPT, "epoch 7 of 10 kept: lowest validation error 1.23 %"),
        (
            replace(KEPT, first=6, tied=True),
            "epoch 7 of 10 kept: lowest validation error 1.23 % of epochs 6 to 10, then loss",
        ),
        (replace(KEPT, epoch=0), "no epoch kept: the network before has the lowest validation error 1.23 %"),
        (
            Kept(10, 10, 1, None, 0, tied=False),
            "epoch 10 of 10 kept: the last, as there are no validation examples",
        ),
    ],
)
def test_it_is_said_which_epoch_was_kept_and_why(kept, reason):
    assert kept.reason == reason


def test_a_choice_by_few_examples_has_a_warning():
    eight = "warning: only 8 validation examples chose it (one is 12.5 %): raise --val-split"
    assert replace(KEPT, val_examples=8).warning == eight
    assert replace(KEPT, val_examples=99).warning is not None
    assert replace(KEPT, val_examples=1).warning.startswith("warning: only 1 validation example chose")


@pytest.mark.parametrize(
    "kept",
    [replace(KEPT, val_examples=100), Kept(10, 10, 1, None, 0, tied=False), replace(KEPT, val_examples=8, first=10)],
    ids=["enough examples", "no examples", "no choice"],
)
def test_other_choices_have_none(kept):
    assert kept.warning is None


class Watching(Silent):
    def __init__(self):
        self.told = []

    def started(self, steps, history=(), epochs=0):
        self.told.append((steps, len(history), epochs))

    def stepped(self, done, loss, accuracy):
        self.told.append(done)

    def kept(self, kept):
        self.told.append((kept.epoch, kept.epochs, kept.first))


def test_a_second_training_counts_on_from_the_first():
    record = EpochRecord(1, 0.5, 0.25, 1.5, 0.1, 0.02, 0.9, {}, 1.0)
    watching = Watching()
    continued = Continued(watching, [record, replace(record, epoch=2)], {})
    continued.started(30, [], 3)
    continued.stepped(5, 0.1, 0.9)
    continued.kept(Kept(1, 3, 1, 1.0, 500, tied=False))
    continued.kept(Kept(0, 3, 1, 1.0, 500, tied=False))
    assert watching.told == [(50, 2, 5), 25, (3, 5, 3), (0, 5, 3)]
