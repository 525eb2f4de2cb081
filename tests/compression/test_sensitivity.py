import numpy as np
import pytest
import torch
from torch import nn

from dcomp import stages
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.errors import CheckpointError
from dcomp.learning import datasets, probe
from dcomp.learning.architectures import tensors_of
from dcomp.learning.datasets import Dataset, MemorySplit, Preprocessing
from dcomp.learning.evaluation import evaluate
from dcomp.learning.examples.images import ImageExamples
from dcomp.progress.observer import Observer
from dcomp.settings import PruneSettings, QuantizeSettings, SensitivitySettings

NETWORK = """
from torch import nn
def small():
    return nn.Sequential(nn.Conv2d(1, 6, 2), nn.ReLU(), nn.Flatten(), nn.Linear(54, 4))
"""


def bright(count: int) -> MemorySplit:
    """Images whose label is the brightest quarter."""
    images = torch.randint(0, 256, (count, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    quarters = nn.functional.avg_pool2d(images.float(), 2).flatten(1)
    return MemorySplit(images, quarters.argmax(1), Preprocessing((0.5,), (0.3,)))


@pytest.fixture
def network(tmp_path, monkeypatch):
    """A trained network's checkpoint, beside the code that makes it."""
    (tmp_path / "smallnet.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(datasets, "load", lambda *_: Dataset(bright(2000), bright(100)))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 2), nn.ReLU(), nn.Flatten(), nn.Linear(54, 4))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        split = bright(2000)
        loss = nn.functional.cross_entropy(model(split.preprocessing.test(split.images)), split.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Checkpoint(tensors_of(model))


def settings(**changes):
    return SensitivitySettings(data="digits", device="cpu", **{"val_split": 0.25, **changes})


def measured(network, **changes):
    return stages.sensitivity(network, settings(**changes), architecture="smallnet:small")


def test_every_layer_has_a_curve_for_sparsity_and_one_for_bits(network):
    result = measured(network, prune="0.9,0.3", bits="2,8")
    assert [(curve.layer, curve.setting) for curve in result.curves] == [
        (layer, setting) for layer in ("0.weight", "3.weight") for setting in ("sparsity", "bits")
    ]
    assert [point.amount for point in result.curves[0].points] == [0.3, 0.9]
    assert [point.amount for point in result.curves[1].points] == [8, 2]
    assert result.count == 500
    assert result.planned is None


def test_harsh_pruning_costs_more_than_gentle_and_8_bits_cost_little(network):
    result = measured(network, prune="0.1,0.99", bits="8")
    for curve in result.curves_of("sparsity"):
        assert curve.points[1].error > curve.points[0].error + 20
    for curve in result.curves_of("bits"):
        assert curve.points[0].loss == pytest.approx(result.loss, rel=0.02)


def test_each_point_is_the_error_of_the_changed_checkpoint(network):
    result = measured(network, prune="0.6", bits="1")
    changed = {
        "sparsity": stages.prune(network, PruneSettings(layer="^3=0.6")),
        "bits": stages.quantize(network, QuantizeSettings(bits="^3=1")),
    }
    for curve in result.curves[2:]:
        same = measured(changed[curve.setting], prune="0.01", bits="none")
        assert same.error == curve.points[0].error
        assert same.loss == pytest.approx(curve.points[0].loss, abs=1e-5)


def test_prune_and_quantize_give_the_error_of_the_plan(network, tmp_path):
    planned = measured(network, max_drop=3.0).planned
    assert planned is not None
    path = tmp_path / "plan.yaml"
    path.write_text(planned.plan.as_yaml(""))
    pruned = stages.prune(network, PruneSettings(plan=path))
    shared = stages.quantize(pruned, QuantizeSettings(plan=path))
    again = measured(shared, prune="none", bits="16")
    assert again.error == planned.error
    assert planned.error <= measured(network, prune="none", bits="8").error + 3.0
    assert max(planned.plan.sparsities.values()) > 0.2


def test_a_limit_measures_on_so_many_examples(network):
    assert measured(network, prune="0.5", bits="none", limit=20).count == 20
    assert measured(network, prune="0.5", bits="none", limit=10**6).count == 500


def test_a_probe_puts_weights_back_even_when_an_evaluation_fails(network, monkeypatch):
    model = nn.Linear(16, 4)
    before = model.weight.detach().clone()
    one = probe.Probe(nn.Sequential(nn.Flatten(), model), ImageExamples(bright(50)))
    zeros = {"1.weight": np.zeros((4, 16), np.float32)}
    changed = one.evaluate(zeros)
    assert changed.judged != round(evaluate(nn.Sequential(nn.Flatten(), model), ImageExamples(bright(50))).judged, 6)
    assert torch.equal(model.weight, before)
    monkeypatch.setattr(probe, "evaluate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        one.evaluate(zeros)
    assert torch.equal(model.weight, before)


def test_the_observer_sees_every_evaluation_and_every_plan_tried(network):
    class Watcher(Observer):
        def __init__(self):
            self.steps, self.notes, self.total = [], [], 0

        def note(self, text):
            self.notes.append(text)

        def started(self, steps):
            self.total = steps

        def finished_steps(self, count, loss, accuracy):
            self.steps.append(count)

    watcher = Watcher()
    chosen = settings(prune="0.2,0.5", bits="4", max_drop=1)
    stages.sensitivity(network, chosen, watcher, architecture="smallnet:small")
    assert watcher.steps == list(range(1, watcher.total + 1)) == [1, 2, 3, 4, 5, 6]
    assert watcher.notes
    assert all("together top-1 error" in note for note in watcher.notes)


def test_a_network_that_answers_nan_is_an_error(network):
    broken = network.replaced({"3.bias": np.full(4, np.nan, np.float32)})
    with pytest.raises(CheckpointError, match="the network's loss is nan"):
        measured(broken)


def test_bfloat16_weights_are_measured_as_they_will_be_stored(network):
    import ml_dtypes

    half = Checkpoint({name: array.astype(ml_dtypes.bfloat16) for name, array in network.tensors.items()})
    result = measured(half, prune="0.5", bits="2")
    assert all(np.isfinite(point.loss) for curve in result.curves for point in curve.points)
