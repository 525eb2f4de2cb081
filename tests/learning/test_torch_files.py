import copy
import os
import pickle
import re
import zipfile
from collections import OrderedDict

import numpy as np
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


def test_tensors_that_share_memory_are_read(tmp_path):
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


def test_objects_among_hyper_parameters_are_refused(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save(lightning(STATE, hyper_parameters={"network": Bomb()}), path)
    with pytest.raises(CheckpointError, match=r"where you trust it, load it by torch and save its state_"):
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


def zipped_again(source, target, change=lambda name, data: data, method=zipfile.ZIP_STORED):
    """A copy of a zip file whose records are changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for info in old.infolist():
            new.writestr(info.filename, change(info.filename, old.read(info)))
    return target


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"w": torch.randn(1000), "b": torch.randn(10), "v": torch.randn(50, 20).T}, path)
    return path


def bits_of(path):
    return {name: (array.shape, array.tobytes()) for name, array in load_checkpoint(path).tensors.items()}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_compressed_file_is_read_as_torch_reads_it(tmp_path, saved, method):
    assert bits_of(zipped_again(saved, tmp_path / "again.pt", method=method)) == bits_of(saved)


@pytest.mark.parametrize("size", [40, 3996, 4004, 4000 + 4096])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_record_of_another_size_than_its_tensor_is_refused(tmp_path, saved, size, method):
    def change(name, data):
        return (data * 3)[:size] if name.endswith("data/0") else data

    with pytest.raises(CheckpointError, match="is not a readable torch checkpoint: record size"):
        load_checkpoint(zipped_again(saved, tmp_path / "again.pt", change, method))


def test_a_flipped_bit_that_torch_does_not_notice_is_refused(saved):
    data = bytearray(saved.read_bytes())
    weights = torch.load(saved)["w"].numpy().tobytes()
    data[data.index(weights) + 1234] ^= 1
    saved.write_bytes(data)
    assert torch.load(saved)["w"].numpy().tobytes() != weights
    with pytest.raises(CheckpointError, match="the record 'model/data/0' is damaged"):
        load_checkpoint(saved)


def test_a_file_that_torch_wrote_without_checksums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(STATE, tmp_path / "model.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert load_checkpoint(tmp_path / "model.pt").tensors["fc.weight"].tolist() == STATE["fc.weight"].tolist()


def test_tensors_stay_on_the_disk_until_they_are_asked_for(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"w": torch.arange(1_000_000.0)}, path)
    read = load_checkpoint(path).tensors
    os.truncate(path, 10_000)
    with pytest.raises(CheckpointError, match="it was cut while it was read"):
        read["w"]


def test_nested_dictionaries_and_lists_lose_no_tensor(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(
        {"w": torch.ones(2), "layers": [torch.zeros(1), {3: torch.ones(3)}], "more": {"step": torch.tensor(7)}}, path
    )
    read = load_checkpoint(path).tensors
    assert {name: array.tolist() for name, array in read.items()} == {
        "w": [1, 1],
        "layers.0": [0],
        "layers.1.3": [1, 1, 1],
        "more.step": 7,
    }


def test_what_is_left_out_beside_the_state_of_a_network_is_said(dcomp, tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save(lightning({"w": torch.ones(2)}, ema={"w": torch.ones(2)}), path)
    code, _, err = dcomp("encode", path)
    assert code == 0
    assert "under 'state_dict' are read, those under 'callbacks', 'optimizer_states', 'ema' are left out" in err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({1: torch.ones(2), "1": torch.zeros(2)}, "two tensors whose keys both give the name '1'"),
        ({"a": {"b": torch.ones(2)}, "a.b": torch.zeros(2)}, "two tensors whose keys both give the name 'a.b'"),
        ({(1, 2): torch.ones(2)}, r"a tensor has the key \(1, 2\), which is neither a string nor an integer"),
        ({"a\ud800": torch.ones(2)}, "no string that UTF-8 can hold"),
        ({"w": torch.ones(2).untyped_storage()}, "holds a storage"),
        ({"w": {torch.ones(2)}}, "holds a set of tensors"),
    ],
)
def test_tensors_without_a_name_of_their_own_are_refused(tmp_path, content, words):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(tmp_path / "model.pt")


def test_endless_dictionaries_are_refused(tmp_path):
    ring: dict = {"w": torch.ones(1)}
    ring["again"] = ring
    tree: list = [torch.ones(1)]
    for _ in range(20):
        tree = [tree, tree]
    for content in (ring, {"tree": tree}):
        torch.save(content, tmp_path / "model.pt")
        with pytest.raises(CheckpointError, match="nests its entries too often"):
            load_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int32])
def test_masks_that_are_not_zero_and_one_multiply_as_in_torch(tmp_path, dtype):
    original, mask = torch.tensor([-3, 5, 7, -4, -2]).to(dtype), torch.tensor([0.0, 1, 2, 0, -1])
    torch.save({"w_orig": original, "w_mask": mask}, tmp_path / "model.pt")
    weight = load_checkpoint(tmp_path / "model.pt").tensors["w"]
    assert weight.astype(float).tolist() == (original * mask.to(dtype)).tolist()
    assert not np.signbit(weight.astype(float)[[0, 3]]).any()


def test_a_small_file_cannot_ask_for_much_memory(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"w": torch.zeros(1).expand(1 << 40)}, path)
    with pytest.raises(CheckpointError, match=r"take 4,398,046,511,104, more than the limit of 1,073,74"):
        load_checkpoint(path)
    torch.save({"w": torch.zeros(1 << 20)}, path)
    zipped_again(path, tmp_path / "packed.pt", method=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match=r"unpacks to 4,19\d,\d\d\d bytes, more than the limit of 1,000,000"):
        load_checkpoint(tmp_path / "packed.pt", max_memory=1_000_000)


def test_expanded_and_strided_tensors_have_torchs_elements(tmp_path):
    state = {
        "conj": torch.randn(6, dtype=torch.complex64).conj(),
        "neg": torch.randn(6, dtype=torch.complex64).conj().imag,
        "expanded": torch.arange(3.0).expand(4, 3),
        "strided": torch.arange(24.0).reshape(2, 3, 4)[:, 1:, ::2].permute(2, 0, 1),
        "empty": torch.empty(0, 3),
    }
    torch.save(state, tmp_path / "model.pt")
    read = load_checkpoint(tmp_path / "model.pt").tensors
    for name, value in torch.load(tmp_path / "model.pt").items():
        assert read[name].shape == value.shape
        assert read[name].tobytes() == value.resolve_conj().resolve_neg().contiguous().numpy().tobytes()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.empty(3, device="meta"), "tensor 'w' has a shape and no data"),
        (torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "tensor 'w' is sparse, nested or quantized"),
        (torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "tensor 'w' is sparse, nested or quantized"),
    ],
    ids=["meta", "quantized", "nested"],
)
def test_what_has_no_plain_elements_is_one_error(tmp_path, value, words):
    torch.save({"w": value}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(tmp_path / "model.pt")


def test_missing_data_are_refused(tmp_path, saved):
    data = bytearray(saved.read_bytes())
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(b"model/data/0"))
    data[entry + 38] |= 0x10  # a folder, of which torch reads no bytes
    (tmp_path / "folder.pt").write_bytes(data)
    with pytest.raises(CheckpointError, match="called a folder"):
        load_checkpoint(tmp_path / "folder.pt")


def test_tensors_of_the_older_format_without_data_are_refused(tmp_path):
    path = tmp_path / "old.pt"
    torch.save({"w": torch.ones(4), "v": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    keys = re.search(rb"\x80\x02\]q.\((X.{4}\d+q.X.{4}\d+q.)e\.", data, re.DOTALL)
    begin, end = keys.span(1)
    first = data[begin : begin + (end - begin) // 2]
    path.write_bytes(data[: begin - 1] + first + b"a." + data[end + 2 :])  # the keys of one storage only
    assert set(torch.load(path)) == {"w", "v"}
    with pytest.raises(CheckpointError, match="the data of tensors are missing"):
        load_checkpoint(path)


def test_a_big_endian_file_is_read_as_torch_reads_it(tmp_path, saved):
    swapped = zipped_again(
        saved,
        tmp_path / "big.pt",
        lambda name, data: (
            b"big"
            if name.endswith("byteorder")
            else np.frombuffer(data, ">f4").astype("<f4").tobytes()
            if name.split("/")[-1] in "012" and "/data/" in name
            else data
        ),
    )
    assert bits_of(swapped) == bits_of(saved)


def test_a_negative_size_is_refused(tmp_path):
    torch.save({"none": torch.empty(0, 3)}, tmp_path / "model.pt")
    shape, below = b"K\x00K\x03\x86", b"K\x00J" + (-3).to_bytes(4, "little", signed=True) + b"\x86"
    path = zipped_again(tmp_path / "model.pt", tmp_path / "x.pt", lambda name, data: data.replace(shape, below))
    assert torch.load(path)["none"].shape == (0, -3)
    with pytest.raises(CheckpointError, match=r"tensor 'none' has the shape \(0, -3\)"):
        load_checkpoint(path)


@pytest.mark.parametrize("shape", [(1,) * 70, (0, 1 << 40, 1 << 20)])
def test_a_shape_that_no_container_can_hold_is_refused(tmp_path, shape):
    torch.save({"w": torch.zeros(shape)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="tensor 'w' has"):
        load_checkpoint(tmp_path / "x.pt")


def test_a_name_that_decode_could_not_write_is_refused(tmp_path):
    torch.save({"__metadata__": torch.zeros(3)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="no safetensors file can hold; rename it"):
        load_checkpoint(tmp_path / "x.pt")


def test_records_that_overlap_are_refused(tmp_path):
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"")
        archive.writestr("x/data/0", bytes(1 << 16))
        archive.filelist += [copy.copy(archive.filelist[-1]) for _ in range(50)]  # the directory names it again
    with pytest.raises(CheckpointError, match="records overlap"):
        load_checkpoint(path)


def test_the_message_about_a_bare_pickle_gives_no_advice_to_run_it(tmp_path):
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps(print))
    with pytest.raises(
        CheckpointError, match=r"bare\.pkl is not a readable torch checkpoint: Unsupported operand"
    ) as e:
        load_checkpoint(tmp_path / "bare.pkl")
    assert "weights_only" not in str(e.value)
