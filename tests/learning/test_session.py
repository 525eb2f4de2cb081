import math

import numpy as np
import pytest

from dcomp import stages
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.learning import datasets
from dcomp.learning.session import Session
from dcomp.progress.observer import Observer
from dcomp.settings import PruneSettings, QuantizeSettings, TrainSettings

GIVEN = {"data": "digits", "epochs": 1, "batch_size": 512}


def rate(session: Session) -> float:
    return session.model.dropout1.p


@pytest.fixture
def session() -> Session:
    settings = PruneSettings(sparsity=0.5, dropout=0.5, **GIVEN)
    return Session("lenet300", None, settings, Observer())


def test_dropout_follows_the_masks(session):
    kept = np.zeros((300, 784), bool)
    kept[::4] = True
    session.mask({"fc1.weight": kept})
    assert rate(session) == pytest.approx(0.25)
    pruned = Checkpoint(session.tensors(), session.metadata())
    sharing = Session("lenet300", pruned, QuantizeSettings(fc_bits=5, **GIVEN), Observer())
    sharing.held.hold(["fc1.weight"])
    sharing.fit(Observer())
    assert rate(sharing) == pytest.approx(0.5 * math.sqrt(0.25))


def test_the_data_do_not_change_the_weights_that_chance_gives(session):
    other = Session("lenet300", None, TrainSettings(architecture="lenet300", seed=0, **GIVEN), Observer())
    assert np.array_equal(session.weights("fc1.weight"), other.weights("fc1.weight"))


def test_a_checkpoints_dropout_and_classes_are_restored(session):
    made = Session(
        "lenet300", None, TrainSettings(architecture="lenet300", dropout=0.3, classes=12, **GIVEN), Observer()
    )
    metadata = made.metadata()
    again = Session("lenet300", Checkpoint(made.tensors(), metadata), PruneSettings(sparsity=0.5, **GIVEN), Observer())
    assert again.metadata() == metadata
    assert (rate(again), again.weights("fc3.weight").shape) == (0.3, (12, 100))


VIEWS = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 5), nn.Linear(4 * 12 * 12, 10)
    def forward(self, x):
        x = nn.functional.max_pool2d(self.conv(x), 2)
        return self.fc(x.view(x.size(0), -1))
"""


def test_a_network_that_views_its_activations_trains(tmp_path, monkeypatch):
    (tmp_path / "viewnet.py").write_text(VIEWS)
    monkeypatch.chdir(tmp_path)
    trained = stages.train(TrainSettings(architecture="viewnet:Net", data="digits", epochs=1, batch_size=256))
    assert trained.tensors["conv.weight"].shape == (4, 1, 5, 5)


def test_weights_of_another_checkpoint_are_not_held(session):
    dense = Checkpoint(session.tensors(), session.metadata())
    session.mask({"fc2.weight": np.zeros((100, 300), bool)})
    session.load(dense)
    assert np.array_equal(session.weights("fc2.weight"), dense.tensors["fc2.weight"])
    assert session.tensors().keys() == dense.tensors.keys()


def test_both_trainings_of_a_stage_use_one_session(monkeypatch):
    loads = []
    load = datasets.load
    monkeypatch.setattr(datasets, "load", lambda *arguments: loads.append(arguments[0]) or load(*arguments))
    dense = stages.train(TrainSettings(architecture="lenet300", **GIVEN))
    loads.clear()
    stages.quantize(dense, QuantizeSettings(fc_bits=4, start=1, **{**GIVEN, "epochs": 2}))
    assert loads == ["digits"]
