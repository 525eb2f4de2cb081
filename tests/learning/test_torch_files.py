import pickle
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from dcomp.errors import CheckpointError
from dcomp.sources import load_checkpoint

STATE = {"fc.weight": torch.arange(6.0).reshape(2, 3), "steps": torch.tensor(3)}


@pytest.mark.parametrize("nested", [STATE, {"state_dict": STATE}, {"model": STATE, "epoch": 3}, {"model_state": STATE}])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_torch_is_read_wherever_its_tensors_are_nested(tmp_path, nested, zipped):
    path = tmp_path / "model.pt"
    torch.save(nested, path, _use_new_zipfile_serialization=zipped)
    read = load_checkpoint(path).tensors
    assert {name: array.tolist() for name, array in read.items()} == {"fc.weight": [[0, 1, 2], [3, 4, 5]], "steps": 3}


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def test_a_file_that_needs_pickle_is_refused_and_not_run(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"model": Bomb()}, path)
    with pytest.raises(CheckpointError, match="can run code when read, and is refused"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps({"model": Bomb()}))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def test_a_file_without_tensors_is_refused(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"epoch": 3}, path)
    with pytest.raises(CheckpointError, match="holds no tensors"):
        load_checkpoint(path)


def test_tensors_that_share_memory_or_are_no_plain_block_of_it_come_out_whole(tmp_path):
    weight = torch.arange(12.0).reshape(3, 4)
    path = tmp_path / "model.pth"
    torch.save(
        {"a": weight, "tied": weight, "turned": weight.T, "part": weight[1:, ::2], "half": weight.bfloat16()}, path
    )
    read = load_checkpoint(path).tensors
    assert read["tied"].tolist() == read["a"].tolist() == weight.tolist()
    assert read["turned"].tolist() == weight.T.tolist()
    assert read["part"].tolist() == weight[1:, ::2].tolist()
    assert read["half"].astype(float).tolist() == weight.tolist()


def test_a_tensor_that_safetensors_cannot_hold_is_named(tmp_path):
    path = tmp_path / "model.bin"
    torch.save({"ok": torch.ones(2), "w": torch.eye(3).to_sparse()}, path)
    with pytest.raises(CheckpointError, match="tensor 'w' is sparse"):
        load_checkpoint(path)
    torch.save({"w": torch.ones(2, dtype=torch.complex128)}, path)
    with pytest.raises(CheckpointError, match=r"tensor 'w' has dtype torch.complex128"):
        load_checkpoint(path)


def lightning(state, **more):
    """The structure of a checkpoint that Lightning's trainer writes."""
    return {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": OrderedDict(state),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 3}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_loss'}": {"best_model_score": torch.tensor(0.1)}},
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}],
        "lr_schedulers": [{"last_epoch": 3, "_last_lr": [0.1]}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "layers": [300, 100]},
        **more,
    }


def test_a_checkpoint_of_lightning_is_read_from_its_state_alone(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save(lightning({"model.fc.weight": torch.ones(2, 3)}), path)
    assert {name: array.tolist() for name, array in load_checkpoint(path).tensors.items()} == {
        "model.fc.weight": [[1, 1, 1], [1, 1, 1]]
    }


def test_hyper_parameters_that_are_objects_are_refused_and_not_run(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save(lightning(STATE, hyper_parameters={"network": Bomb()}), path)
    with pytest.raises(CheckpointError, match=r"refused; save its state_dict\(\) as safetensors"):
        load_checkpoint(path)


def test_weights_that_torch_holds_pruned_come_out_pruned(tmp_path):
    layer = nn.Linear(6, 4)
    prune.l1_unstructured(layer, "weight", amount=10)
    expected = layer.weight.detach()
    path = tmp_path / "pruned.pt"
    torch.save(layer.state_dict(), path)
    read = load_checkpoint(path).tensors
    assert list(read) == ["bias", "weight"]
    assert read["weight"].tolist() == expected.tolist()
    assert (read["weight"] == 0).sum() == 10


@pytest.mark.parametrize(
    "state",
    [
        {"w_orig": torch.ones(2), "w_mask": torch.ones(3)},
        {"w_orig": torch.ones(2), "w_u": torch.ones(2)},
        {"w_orig": torch.ones(2), "w_mask": torch.ones(2), "w": torch.ones(2)},
    ],
)
def test_names_that_only_look_like_pruned_weights_are_left_alone(tmp_path, state):
    path = tmp_path / "other.pt"
    torch.save(state, path)
    assert list(load_checkpoint(path).tensors) == list(state)
