import pytest

from dcomp import stages
from dcomp.errors import UsageError
from dcomp.learning.early_stopping import is_over
from dcomp.progress.measurement import TOP1_ERROR
from dcomp.progress.observer import ChosenEpoch, EpochRecord, Observer
from dcomp.settings import PruneSettings, QuantizeSettings, TrainSettings


def settings(**changes):
    return TrainSettings(architecture="lenet5", data="digits", **{"epochs": 20, **changes})


def is_over_after(losses, *, first=1, start=None, **changes):
    """Whether a training is over whose epochs have these losses; `start` is the loss before, if that counts."""
    figures = [{"top1_error": 5.0, "top5_error": 1.0, "loss": loss} for loss in losses]
    history = [EpochRecord(n, 1.0, of_epoch, TOP1_ERROR, 0.1, 0.0, {}, 1.0) for n, of_epoch in enumerate(figures, 1)]
    candidates = [record for record in history if record.epoch >= first]
    best = min((record.val_loss for record in candidates), default=None)
    epoch = max((record.epoch for record in candidates if record.val_loss == best), default=0)
    if start is not None and (best is None or start < best):
        epoch = 0
    judged = 5.0 if candidates or start is not None else None
    choice = ChosenEpoch(epoch, len(losses), first, judged, 300, tied=True)
    return is_over(settings(**changes), choice, history)


@pytest.mark.parametrize(
    ("losses", "over"),
    [([], False), ([3, 2, 1, 2, 2], False), ([3, 2, 1, 2, 2, 2], True), ([3, 2, 1, 2, 2, 0], False)],
)
def test_a_training_is_over_when_it_has_waited_long_enough(losses, over):
    assert is_over_after(losses, early_stop=3) == over


@pytest.mark.parametrize(("losses", "over"), [([], False), ([2, 2], False), ([2, 2, 2], True), ([2, 2, 0], False)])
def test_the_network_before_the_first_epoch_may_be_the_best(losses, over):
    assert is_over_after(losses, start=1, early_stop=3) == over


def test_an_equal_epoch_is_not_better():
    assert not is_over_after([3, 2, 2], early_stop=2)
    assert is_over_after([3, 2, 2, 2], early_stop=2)


@pytest.mark.parametrize(("more", "over"), [([], False), ([5], False), ([5, 6], False), ([5, 6, 7], True)])
def test_epochs_before_the_last_move_of_the_masks_do_not_count(more, over):
    assert is_over_after([1, 2, 3, 4, *more], first=5, early_stop=2) == over


def test_the_fewest_epochs_are_trained_in_any_case():
    assert not is_over_after([1] * 9, early_stop=1, min_epochs=10)
    assert is_over_after([1] * 10, early_stop=1, min_epochs=10)


def test_without_the_option_a_training_has_all_its_epochs():
    assert not is_over_after([1] * 19)


class Watching(Observer):
    """An observer of epochs, notes and choices."""

    def __init__(self):
        self.epochs, self.notes, self.choices, self.weighed = [], [], [], []

    def finished_epoch(self, record):
        self.epochs.append(record.epoch)

    def note(self, text):
        self.notes.append(text)

    def chose_epoch(self, choice):
        self.choices.append(choice)

    def weights(self, epoch, tensors):
        self.weighed.append(epoch)


DIGITS = {"data": "digits", "batch_size": 256}
HARMFUL = {**DIGITS, "epochs": 12, "lr": 2.0, "clip_norm": 1.0, "optimizer": "sgd", "lr_schedule": "constant"}
"""Training that makes a good network worse."""


@pytest.fixture(scope="module")
def good():
    return stages.train(TrainSettings(architecture="lenet300", epochs=3, **DIGITS))


def test_a_network_that_gets_worse_stops_and_its_best_epoch_is_kept(good):
    watching = Watching()
    stages.prune(good, PruneSettings(sparsity=0.5, until=2, early_stop=2, **HARMFUL), watching)
    [kept] = watching.choices
    assert kept.first == 3
    assert watching.epochs == list(range(1, kept.epoch + 3))
    assert len(watching.epochs) < 12
    assert watching.weighed == [0, len(watching.epochs)]
    stopped = f"stopped after epoch {kept.epoch + 2} of 12: 2 epochs without a better one"
    assert stopped in watching.notes


def test_both_trainings_of_quantize_end_early(good):
    watching = Watching()
    stages.quantize(good, QuantizeSettings(fc_bits=5, start=6, early_stop=1, **HARMFUL), watching)
    stopped = [note for note in watching.notes if note.startswith("stopped after epoch")]
    assert len(stopped) == 2
    assert all("of 6: 1 epochs without" in note for note in stopped)
    assert watching.epochs == list(range(1, len(watching.epochs) + 1))
    assert len(watching.epochs) < 12
    assert watching.choices[-1].epochs == len(watching.epochs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"early_stop": 2, "val_split": 0}, "--early-stop goes by validation: give a --val-split above 0"),
        ({"min_epochs": 2}, "--min-epochs would do nothing without --early-stop"),
        ({"early_stop": 2, "min_epochs": 9}, "min_epochs <= epochs must hold, not 9 <= 4"),
        ({"early_stop": 2, "epochs": 0}, "--early-stop would do nothing without training"),
    ],
)
def test_options_of_an_early_end_that_do_nothing_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        PruneSettings.from_options(**{"sparsity": 0.5, "data": "digits", "epochs": 4, **options})
