import pytest

from dcomp.errors import UsageError
from dcomp.progress.measurement import Measurement
from dcomp.settings import EvalSettings
from dcomp.settings.bounds import parse

MEASURED = Measurement({"top1_error": 2.5, "top5_error": 0.5, "loss": 0.1})


@pytest.mark.parametrize(
    ("options", "violations"),
    [
        ({"max": ["top1_error=2.5"], "min": ["loss=0.1"]}, []),
        ({"max": ["top1_error=2"]}, ["top-1 error 2.50 % is above the 2 % allowed"]),
        (
            {"max_error": 2, "min": {"loss": 0.2}},
            ["top-1 error 2.50 % is above the 2 % allowed", "loss 0.1000 is below the 0.2 required"],
        ),
    ],
)
def test_a_metric_at_its_bound_keeps_it_and_one_beyond_is_named(options, violations):
    texts = [bound.violation(MEASURED) for bound in EvalSettings(**options).bounds]
    assert [text for text in texts if text is not None] == violations


@pytest.mark.parametrize("text", ["loss", "=1", "loss=", "loss=x", "loss=inf", "loss=nan"])
def test_another_form_than_metric_and_number_is_an_error_that_shows_it(text):
    with pytest.raises(ValueError, match=r"should be METRIC=VALUE, as in top1_error=1\.5"):
        parse(text)


def test_a_metric_that_the_task_lacks_is_an_error_with_those_that_it_has():
    settings = EvalSettings(max=["iou=1"])
    with pytest.raises(UsageError, match=r"max iou=1 \(--max\): there is no metric iou; there are a, loss"):
        settings.check_bounded(["a", "loss"])
