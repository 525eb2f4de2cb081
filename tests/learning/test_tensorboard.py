import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dcomp import stages
from dcomp.errors import UsageError
from dcomp.learning.tensorboard import Curves
from dcomp.settings import PruneSettings, QuantizeSettings


def test_curves_sparsity_by_layer_and_histograms_are_written(tmp_path, lenet_like):
    settings = PruneSettings(sparsity=0.9, epochs=2, until=1, data="digits", batch_size=256)
    stages.prune(lenet_like, settings, Curves(tmp_path / "events"))
    events = EventAccumulator(str(tmp_path / "events"), {"histograms": 0}).Reload()
    for name in ("loss/train", "error/top-1", "error/top-5", "sparsity by layer/fc1.weight"):
        assert [scalar.step for scalar in events.Scalars(name)] == [1, 2]
    assert events.Scalars("sparsity")[-1].value == pytest.approx(0.9, abs=1e-4)
    before, after = (event.histogram_value.num for event in events.Histograms("weights/fc1.weight"))
    assert before == lenet_like.tensors["fc1.weight"].size > after > 0


@pytest.mark.parametrize(("start", "steps"), [(0, [0, 3]), (1, [0, 1, 3])])
def test_weights_that_are_shared_are_shown_as_they_were_before(tmp_path, lenet_like, start, steps):
    settings = QuantizeSettings(fc_bits=1, start=start, epochs=3, data="digits", batch_size=256)
    stages.quantize(lenet_like, settings, Curves(tmp_path))
    events = EventAccumulator(str(tmp_path), {"histograms": 0}).Reload()
    assert [scalar.step for scalar in events.Scalars("loss/train")] == [1, 2, 3]
    shown = events.Histograms("weights/fc1.weight")
    assert [event.step for event in shown] == steps
    filled = [sum(count > 0 for count in event.histogram_value.bucket) for event in shown]
    assert min(filled[:-1]) > 20 > 2 >= filled[-1]


def test_what_was_not_validated_has_no_curve(tmp_path, lenet_like):
    settings = PruneSettings(sparsity=0.9, epochs=1, data="digits", batch_size=256, val_split=0)
    stages.prune(lenet_like, settings, Curves(tmp_path))
    tags = EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"]
    assert "loss/train" in tags
    assert not {"loss/validation", "error/top-1", "error/top-5"} & set(tags)


def test_without_tensorboard_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"dcomp\[tensorboard\]"):
        Curves(tmp_path)


def test_infinite_weights_have_no_histogram(tmp_path):
    curves = Curves(tmp_path)
    curves.started(1)
    curves.weights(0, {"w": np.array([[np.inf, 1]], np.float32)})
    curves.finished()
    assert EventAccumulator(str(tmp_path)).Reload().Tags()["histograms"] == []
