import pickle

import pytest
import torch

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
