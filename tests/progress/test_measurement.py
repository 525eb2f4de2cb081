"""Metrics by name, and the one that judges."""

import math

import pytest

from dcomp.errors import CheckpointError
from dcomp.progress.measurement import TOP1_ERROR, Judge, Measurement
from dcomp.progress.observer import ChosenEpoch, EpochRecord

IOU = Judge("iou", lower_is_better=False)
CLASSES = Measurement({"top1_error": 1.5, "top5_error": 0.25, "loss": 0.1}, count=200)
PIXELS = Measurement({"iou": 0.75, "loss": 0.5}, IOU)


def test_a_judge_shows_percentages_with_their_unit_and_other_metrics_with_four_decimals():
    assert (TOP1_ERROR.title, TOP1_ERROR.heading, TOP1_ERROR.text(1.234)) == ("top-1 error", "top-1 error %", "1.23 %")
    assert (IOU.title, IOU.heading, IOU.text(0.75)) == ("iou", "iou", "0.7500")


def test_a_higher_value_costs_less_where_lower_is_not_better():
    assert (TOP1_ERROR.cost(2.0), IOU.cost(0.75), IOU.cost(IOU.cost(0.75))) == (2.0, -0.75, 0.75)
    assert (TOP1_ERROR.worsening(2.3, 2.0), IOU.worsening(0.7, 0.75), IOU.worsening(0.8, 0.75)) == (0.3, 0.05, -0.05)
    assert PIXELS.rank < Measurement({"iou": 0.7, "loss": 0.1}, IOU).rank


def test_only_classification_has_an_accuracy():
    assert (CLASSES.accuracy, PIXELS.accuracy) == (0.985, None)


@pytest.mark.parametrize(
    ("measured", "plain"),
    [
        (CLASSES, {"top1_error": 1.5, "top5_error": 0.25, "loss": 0.1, "count": 200}),
        (PIXELS, {"iou": 0.75, "loss": 0.5, "judge": "iou", "lower_is_better": False}),
    ],
    ids=["classes", "pixels"],
)
def test_plain_data_name_the_judge_unless_it_is_the_usual_one(measured, plain):
    assert measured.as_dict() == plain
    again = Measurement.of({key: value for key, value in plain.items() if key != "count"})
    assert (again.metrics, again.judge) == (measured.metrics, measured.judge)


@pytest.mark.parametrize(
    "recorded",
    [
        [],
        {},
        {"top1_error": 1.0},
        {"top1_error": "1", "loss": 0.1},
        {"top1_error": True, "loss": 0.1},
        {"top1_error": 101, "loss": 0.1},
        {"top1_error": 1.0, "loss": -0.1},
        {"iou": math.nan, "loss": 0.1, "judge": "iou", "lower_is_better": False},
        {"iou": 0.5, "loss": 0.1, "judge": "dice", "lower_is_better": False},
        {"iou": 0.5, "loss": 0.1, "judge": "iou", "lower_is_better": 1},
        {"iou": 0.5, "loss": 0.1, "judge": ["iou"], "lower_is_better": False},
    ],
)
def test_what_is_no_measurement_is_refused(recorded):
    with pytest.raises(ValueError):  # its message goes into that of the file
        Measurement.of(recorded)


def test_the_loss_of_a_task_may_be_negative():
    assert Measurement.of({"iou": 0.5, "loss": -2.0, "judge": "iou", "lower_is_better": False}).loss == -2.0


@pytest.mark.parametrize("metrics", [{"iou": math.nan, "loss": 0.1}, {"iou": 0.5, "loss": math.inf}])
def test_a_loss_or_a_judge_that_is_not_finite_is_an_error(metrics):
    with pytest.raises(CheckpointError, match=r"the network's (iou is nan|loss is inf): its weights"):
        Measurement(metrics, IOU).check_finite()


def test_metrics_are_rounded_to_what_all_machines_share():
    assert Measurement({"iou": 0.123456789, "loss": 0.1}, IOU).rounded().metrics["iou"] == 0.123457


RECORD = EpochRecord(2, 0.5, {"iou": 0.75, "loss": 0.25}, IOU, 0.1, 0.9, {}, 1.5)


def test_the_figures_of_an_epoch_have_the_names_of_its_metrics():
    assert list(RECORD.figures()) == ["epoch", "train_loss", "val_loss", "val_iou", "lr", "sparsity", "seconds"]
    assert RECORD.rounded() == {"epoch": 2, "train_loss": 0.5, "val_loss": 0.25, "val_iou": 0.75}
    assert EpochRecord.of(RECORD.as_dict()) == RECORD


def test_the_reason_of_a_choice_says_whether_the_value_is_the_lowest_or_the_highest():
    choice = ChosenEpoch(2, 5, 1, 0.75, 200, tied=False, judge=IOU)
    assert choice.reason == "epoch 2 of 5 kept: highest validation iou 0.7500"
    assert choice.as_dict() == {
        **{"epoch": 2, "epochs": 5, "first": 1, "val_iou": 0.75, "val_examples": 200, "tied": False},
        **{"judge": "iou", "lower_is_better": False},
    }


def test_a_metric_that_is_nan_is_worse_than_any_other():
    ranks = [
        Measurement({"iou": iou, "loss": loss}, Judge("iou", False)).rank for iou, loss in ((0.1, 3), (math.nan, 1))
    ]
    assert ranks[0] < ranks[1] < (math.inf, 2)
    assert not Measurement({"loss": math.nan}, Judge("loss")).rank < (math.inf, math.inf)
