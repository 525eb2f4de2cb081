import pytest

from dcomp import stages
from dcomp.errors import UsageError
from dcomp.learning.early_stopping import is_over
from dcomp.progress.observer import ChosenEpoch, Observer
from dcomp.settings import PruneSettings, QuantizeSettings, TrainSettings


def settings(**changes):
    return TrainSettings(architecture="lenet5", data="digits", **{"epochs": 20, **changes})


def choice(epoch, epochs, first=1, val_judged=5.0):
    return ChosenEpoch(epoch, epochs, first, val_judged, 300, tied=False)


@pytest.mark.parametrize(
    ("best", "done", "over"), [(3, 5, False), (3, 6, True), (6, 6, False), (0, 2, False), (0, 3, True)]
)
def test_a_training_is_over_when_it_has_waited_long_enough(best, done, over):
    assert is_over(settings(early_stop=3), choice(best, done)) == over


def test_epochs_before_the_last_move_of_the_masks_do_not_count():
    chosen = settings(early_stop=2)
    assert not is_over(chosen, choice(9, 9, first=9, val_judged=None))
    assert not is_over(chosen, choice(0, 8, first=8))
    assert not is_over(chosen, choice(8, 9, first=8))
    assert is_over(chosen, choice(8, 10, first=8))


def test_the_fewest_epochs_are_trained_in_any_case():
    assert not is_over(settings(early_stop=1, min_epochs=10), choice(3, 9))
    assert is_over(settings(early_stop=1, min_epochs=10), choice(3, 10))


def test_without_the_option_a_training_has_all_its_epochs():
    assert not is_over(settings(), choice(1, 19))


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
