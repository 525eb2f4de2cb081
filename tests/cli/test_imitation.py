"""A network learns from a teacher: with labels, for any task, and without labels."""

import json
import sys

import numpy as np
import pytest

from dcomp.checkpoints import safetensors_file

CODE = """
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset
import dcomp

CHANCE = torch.Generator().manual_seed(0)
INPUTS = torch.randn(200, 4, generator=CHANCE)
TARGETS = torch.stack([INPUTS.sum(1), INPUTS[:, 0] * INPUTS[:, 1]], 1)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 32), nn.Linear(32, 2)

    def forward(self, inputs):
        return {"values": self.second(self.first(inputs).relu())}

class Items(Dataset):
    def __init__(self, form):
        self.form = form
    def __len__(self):
        return len(INPUTS)
    def __getitem__(self, index):
        return self.form(INPUTS[index])

def task():
    def error(model, batch):
        return (model(batch[0])["values"] - batch[1]).square().mean()
    data = TensorDataset(INPUTS, TARGETS)
    return dcomp.Task(train=data, test=data, loss=error, metrics=lambda *both: {"mse": error(*both)}, judge="mse")

def nothing():
    def loss(model, batch):
        return float("nan") * model(batch[0])["values"].mean()
    data = TensorDataset(INPUTS)
    return dcomp.Task(train=data, test=data, validation=None, loss=loss, metrics=lambda *_: {"loss": 0.0})

def inputs():
    return TensorDataset(INPUTS), TensorDataset(INPUTS)

def tensors():
    return Items(lambda tensor: tensor), Items(lambda tensor: tensor)

def mappings():
    return Items(lambda tensor: {"inputs": tensor}), Items(lambda tensor: {"inputs": tensor})
"""

TRAINING = ["--batch-size", "20", "--optimizer", "adam", "--lr", "0.003"]


@pytest.fixture
def dense(tmp_path, monkeypatch, dcomp):
    """A network that has learned a regression task."""
    monkeypatch.setenv("DCOMP_TRUST_CODE", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "imitated.py").write_text(CODE)
    monkeypatch.delitem(sys.modules, "imitated", raising=False)
    code, _, err = dcomp("train", "imitated:Net", "--data", "imitated:task", "--epochs", "20", *TRAINING, "-o", "a")
    assert code == 0, err
    return tmp_path / "a"


def distance(one, other):
    """The mean squared difference of two checkpoints' networks on the inputs."""
    import imitated
    import torch

    answers = []
    for path in (one, other):
        net = imitated.Net()
        arrays = safetensors_file.load_file(path).tensors
        net.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
        with torch.no_grad():
            answers.append(net(imitated.INPUTS)["values"])
    return (answers[0] - answers[1]).square().mean().item()


PRUNING = ["--sparsity", "0.5", "--epochs", "10", "--schedule", "oneshot", *TRAINING]


def test_a_pruned_network_learns_the_task_and_its_teacher(dense, dcomp):
    code, _, err = dcomp("prune", dense, *PRUNING, "--distill", dense, "-o", "b")
    assert code == 0, err
    code, out, _ = dcomp("eval", "b")
    assert code == 0
    assert "mse" in out


@pytest.mark.parametrize("data", ["inputs", "tensors", "mappings", "nothing"])
def test_without_labels_a_network_imitates_its_own_dense_self(data, dense, dcomp):
    assert dcomp("prune", dense, "--sparsity", "0.5", "-o", "pruned")[0] == 0
    imitation = ["--distill", dense, "--alpha", "1", "--data", f"imitated:{data}"]
    code, _, err = dcomp("prune", dense, *PRUNING, *imitation, "-o", "b")
    assert code == 0, err
    assert distance("b", dense) < 0.3 * distance("pruned", dense)


def test_the_best_epoch_is_the_one_that_is_nearest_to_the_teacher(dense, dcomp):
    imitation = ["--distill", dense, "--alpha", "1", "--data", "imitated:inputs", "--json"]
    _, out, _ = dcomp("prune", dense, *PRUNING, *imitation, "-o", "b")

    document = json.loads(out)
    losses = [epoch["val_loss"] for epoch in document["epochs"]]
    assert document["kept_epoch"]["epoch"] == 1 + losses.index(min(losses))
    assert losses[-1] < losses[0]


def test_outputs_of_modules_are_learned_too(dense, dcomp):
    imitation = ["--distill", dense, "--alpha", "1", "--data", "imitated:inputs"]
    for more, name in ([], "b"), (["--distill-at", "first", "--distill-loss", "mse"], "c"):
        assert dcomp("finetune", dense, "--epochs", "2", *TRAINING, *imitation, *more, "-o", name)[0] == 0
    code, _, err = dcomp("finetune", dense, "--epochs", "2", *imitation, "--distill-at", "third", "-o", "d")
    assert code == 2
    assert "error: distill_at (--distill-at) 'third' matches no module; there are first, second" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "an example of imitated:inputs is a tuple of 1, not a pair (input, label); without labels a network can"),
        (["--distill", "a"], "give distill (--distill FILE) and alpha 1"),
        (["--distill", "a", "--alpha", "1", "--label-smoothing", "0.1"], "is for labels, which the examples of"),
        (["--distill", "a", "--alpha", "1", "--temperature", "2"], "temperature (--temperature) does nothing for mse"),
    ],
)
def test_without_labels_what_needs_them_is_refused(options, message, dense, dcomp):
    code, _, err = dcomp("finetune", dense, "--epochs", "1", "--data", "imitated:inputs", *options, "-o", "b")
    assert code in (1, 2)
    assert message in err


def test_without_labels_there_is_nothing_to_evaluate(dense, dcomp):
    code, _, err = dcomp("eval", dense, "--data", "imitated:inputs")
    assert code == 1
    assert "not a pair (input, label); without labels there is nothing to measure: name data (--data) with" in err
    assert "distill" not in err
