"""Which tensors of a file of torch are read, where it holds more than one network."""

import re

import pytest
import torch

from dcomp.errors import CheckpointError
from dcomp.sources import load_checkpoint

STATE = {"fc.weight": torch.ones(2, 3), "fc.bias": torch.ones(2)}
OTHER = {"fc.weight": torch.zeros(2, 3), "fc.bias": torch.zeros(2)}


def adam():
    """The state of an optimizer after a step."""
    weight = torch.nn.Parameter(torch.ones(2, 3))
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    return optimizer.state_dict()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pth"


def read(path, content, key=None):
    """The names and first elements of the tensors that are read, and the notes."""
    torch.save(content, path)
    notes = []
    tensors = load_checkpoint(path, key=key, note=notes.append).tensors
    return {name: float(array.flat[0]) for name, array in tensors.items()}, notes


@pytest.mark.parametrize("key", ["model_state_dict", "net", "params_ema", "generator", "weights"])
def test_the_only_network_is_read_under_whatever_key(path, key):
    tensors, notes = read(path, {key: STATE, "epoch": 3, "loss": torch.tensor(0.3), "optimizer": adam()})
    assert tensors == {"fc.weight": 1, "fc.bias": 1}
    assert notes == [f"{path}: the tensors under {key!r} are read, those under 'loss', 'optimizer' are left out"]


def test_a_network_below_other_keys_is_read_without_them(path):
    tensors, notes = read(path, {"checkpoint": {"weights": STATE, "optim": adam()}, "steps": torch.tensor(3)})
    assert tensors == {"fc.weight": 1, "fc.bias": 1}
    assert "under 'checkpoint.weights' are read, those under 'checkpoint.optim', 'steps' are left out" in notes[0]


def test_a_usual_key_below_a_usual_key_is_no_part_of_names(path):
    assert read(path, {"model": {"state_dict": STATE}})[0] == {"fc.weight": 1, "fc.bias": 1}


def test_several_networks_are_listed_with_their_sizes(path):
    with pytest.raises(CheckpointError) as caught:
        read(path, {"model_state_dict": STATE, "ema": {"shadow": OTHER}, "optimizer": adam()})
    listed = "'model_state_dict' (2 tensors, 32 bytes), 'ema.shadow' (2 tensors, 32 bytes)"
    assert f"{path} holds several networks: {listed}; choose one with --key NAME" in str(caught.value)


@pytest.mark.parametrize(("key", "value"), [("net", 1), ("ema", 0), ("ema.shadow", 0)])
def test_a_key_chooses_a_network(path, key, value):
    tensors, notes = read(path, {"net": STATE, "ema": {"shadow": OTHER}}, key)
    assert tensors == {"fc.weight": value, "fc.bias": value}
    assert len(notes) == 1


def test_a_key_wins_over_the_usual_ones(path):
    assert read(path, {"model": STATE, "ema": OTHER}, "ema")[0]["fc.weight"] == 0


def test_a_key_with_dots_in_it_is_a_key(path):
    assert read(path, {"a.b": STATE, "c": OTHER}, "a.b")[0]["fc.weight"] == 1


def test_a_key_that_is_missing_is_an_error_with_those_that_are_there(path):
    words = re.escape("has no tensors under --key 'nets'; it has 'net' (2 tensors, 32 bytes), 'ema' (2 tensors")
    with pytest.raises(CheckpointError, match=words):
        read(path, {"net": STATE, "ema": OTHER}, "nets")


def test_several_networks_below_a_key_are_listed_by_their_whole_keys(path):
    with pytest.raises(CheckpointError, match=r"several networks: 'nets\.0' \(2 tensors, 32 bytes\), 'nets\.1' \("):
        read(path, {"nets": [STATE, OTHER], "best": STATE}, "nets")


def test_the_state_of_an_optimizer_is_no_network(path):
    with pytest.raises(CheckpointError, match="holds the state of an optimizer, and no weights"):
        read(path, adam())
    tensors, notes = read(path, {**STATE, "optimizer": adam()})
    assert list(tensors) == list(STATE)
    assert notes == [f"{path}: the tensors under 'optimizer' are left out"]


def test_tensors_as_keys_are_refused(path):
    with pytest.raises(CheckpointError, match="tensors as keys"):
        read(path, {torch.ones(2): torch.ones(2)})


def test_many_networks_are_listed_in_part(path):
    with pytest.raises(CheckpointError, match=r"'net7' \(2 tensors, 32 bytes\), 2 more; choose"):
        read(path, {f"net{number}": STATE for number in range(10)})
