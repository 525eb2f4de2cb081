import json

import pytest

from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.compression import provenance
from dcomp.progress.measurement import TOP1_ERROR
from dcomp.progress.observer import EpochRecord
from dcomp.settings import QuantizeSettings

METRICS = {"top1_error": 3.0, "top5_error": 1.0, "loss": 0.25}
EPOCH = EpochRecord(1, 0.5, METRICS, TOP1_ERROR, 0.1, 0.0, {}, 9.0)
BEFORE = {"dcomp.architecture": "lenet5", "dcomp.train": "{}", "dcomp.history": "[1]", "format": "pt"}


def noted(kind):
    settings = QuantizeSettings(fc_bits=5, provenance=kind)
    return provenance.with_notes(Checkpoint({}, dict(BEFORE)), "quantize", settings, [EPOCH]).metadata


def test_full_notes_are_the_settings_and_the_epochs():
    found = noted("full")
    assert json.loads(found["dcomp.quantize"]) == {"fc_bits": 5}
    assert [epoch["epoch"] for epoch in json.loads(found["dcomp.history"])] == [1]
    assert found.keys() >= BEFORE.keys()


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        ("settings", {*BEFORE, "dcomp.version", "dcomp.quantize"} - {"dcomp.history"}),
        ("none", {"dcomp.architecture", "format"}),
    ],
)
def test_provenance_none_removes_all_notes(kind, left):
    assert noted(kind).keys() == left
