"""The files and folders that commands write, loaded by the libraries that wrote their inputs."""

import errno
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dcomp import outputs
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.cli.output_names import TENSORS_SUFFIXES
from dcomp.errors import OutputError
from dcomp.learning import vision  # noqa: F401  # before transformers, which imports torchvision
from dcomp.sources import load_checkpoint
from dcomp.system.files import replacing

PRUNE = ["prune", "--sparsity", "0.5"]


def test_the_formats_have_one_list_of_names():
    assert set(outputs.WRITERS) == set(TENSORS_SUFFIXES)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3).to(torch.bfloat16))


@pytest.fixture
def state_file(tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"model_state_dict": network().state_dict(), "epoch": 3}, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".PTH"])
def test_a_file_of_torch_comes_back_as_one(dcomp, tmp_path, state_file, suffix):
    assert dcomp("encode", state_file)[0] == 0
    again = tmp_path / f"again{suffix}"
    code, out, err = dcomp("decode", tmp_path / "net.dcz", "-o", again)
    assert (code, out) == (0, f"{again}\n"), err
    loaded = torch.load(again, weights_only=True)
    assert {name: tensor.dtype for name, tensor in loaded.items()} == {
        name: tensor.dtype for name, tensor in network().state_dict().items()
    }
    fresh = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3).to(torch.bfloat16))
    fresh.load_state_dict(loaded)
    for name, tensor in network().state_dict().items():
        assert torch.equal(fresh.state_dict()[name], tensor)


class Full(io.RawIOBase):
    """A file on a disk that is full."""

    def writable(self):
        return True

    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("suffix", ["", *TENSORS_SUFFIXES])
def test_a_full_disk_is_the_error_of_the_system(tmp_path, suffix):
    checkpoint = Checkpoint({"w": np.ones(10_000)})
    with pytest.raises(OutputError, match=r"cannot write .*x: No space left on device"), replacing(tmp_path / "x"):
        outputs.save(checkpoint, Full(), suffix=suffix)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stage", [PRUNE, ["quantize", "--fc-bits", "2"]], ids=lambda stage: stage[0])
def test_a_stage_may_write_a_file_of_torch(dcomp, tmp_path, state_file, stage):
    code, _, err = dcomp(*stage, state_file, "-o", tmp_path / "out.pth")
    assert code == 0, err
    loaded = torch.load(tmp_path / "out.pth", weights_only=True)
    network().load_state_dict(loaded)
    assert len(loaded["0.weight"].unique()) < 30
    assert "out.pth holds tensors alone: the metadata (dcomp.version, dcomp." in err
    assert list(load_checkpoint(tmp_path / "out.pth").tensors) == list(loaded)


def test_a_network_that_is_trained_may_be_written_for_torch(dcomp, tmp_path):
    arguments = ["--data", "digits", "--epochs", "1", "-o", tmp_path / "new.pth"]
    code, _, err = dcomp("train", "lenet300", *arguments)
    assert (code, "(dcomp.architecture, " in err) == (0, True)
    assert torch.load(tmp_path / "new.pth", weights_only=True)["fc3.weight"].shape == (10, 100)


@pytest.mark.parametrize(
    ("command", "name", "words"),
    [
        (PRUNE, "x.dcz", "prune writes .safetensors files: name it x.safetensors (-o); dcomp encode writes .dcz files"),
        (PRUNE, "x.ckpt", "prune writes .safetensors files: name it x.safetensors (-o), or .pth for torch.load"),
        (
            PRUNE,
            "x.onnx",
            "prune writes .safetensors files: name it x.safetensors (-o); x.onnx would be the name of an ONNX model",
        ),
        (
            ["encode"],
            "x.h5",
            "encode writes .dcz files: name it x.dcz (-o); x.h5 would be the name of an HDF5 file",
        ),
        (["encode"], "x.pth", "encode writes .dcz files: name it x.dcz (-o); dcomp decode writes .pth files"),
        (["encode"], "x.npz", "encode writes .dcz files: name it x.dcz (-o); dcomp decode writes .npz files"),
    ],
)
def test_names_that_promise_another_format_are_refused(dcomp, state_file, monkeypatch, command, name, words):
    monkeypatch.chdir(state_file.parent)
    assert dcomp(*command, state_file, "-o", name) == (2, "", f"error: {words}\n")


def test_npz_is_written_without_torchs_dtypes(dcomp, tmp_path, state_file):
    code, _, err = dcomp(*PRUNE, state_file, "-o", tmp_path / "out.npz")
    assert (code, "numpy has no dtype for tensor '2.weight', which is BF16" in err) == (1, True)
    assert not (tmp_path / "out.npz").exists()


CONFIG = {"vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16}
"""Of a language model that is small."""


def hugging_face_folder(path, form):
    """Save a small language model and a tokenizer's files as its users find them."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**CONFIG, bos_token_id=0, eos_token_id=0))
    model.save_pretrained(path, max_shard_size="6KB" if "shards" in form else "1GB")
    if "bin" in form:
        as_files_of_torch(path)
    (path / "merges.txt").write_text("#version: 0.2\n")
    (path / "tokenizer_config.json").write_text('{"model_max_length": 16}\n')
    (path / "training_args.bin").write_bytes(b"no weights")
    (path / "runs").mkdir()
    return model


def as_files_of_torch(path):
    """Turn safetensors files into those that earlier versions of the library saved."""
    from safetensors.torch import load_file

    for file in list(path.glob("*.safetensors")):
        torch.save(load_file(file), path / f"pytorch_{file.stem}.bin")
        file.unlink()
    for index in list(path.glob("*.index.json")):
        content = json.loads(index.read_text())
        places = {
            name: f"pytorch_{file.removesuffix('.safetensors')}.bin" for name, file in content["weight_map"].items()
        }
        (path / "pytorch_model.bin.index.json").write_text(json.dumps({**content, "weight_map": places}))
        index.unlink()


def loaded_state(path):
    """The state of the model that Transformers loads from a folder, with nothing missing."""
    from transformers import GPT2LMHeadModel

    model, report = GPT2LMHeadModel.from_pretrained(path, output_loading_info=True)
    assert not any(report[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.state_dict()


FORMS = ["safetensors", "safetensors shards", "bin", "bin shards"]


@pytest.fixture(params=FORMS)
def model_folder(request, tmp_path):
    return tmp_path / "gpt", hugging_face_folder(tmp_path / "gpt", request.param)


def test_a_folder_comes_back_from_a_container(dcomp, tmp_path, model_folder):
    folder, model = model_folder
    code, out, err = dcomp("encode", folder)
    assert (code, out) == (0, f"{folder}.dcz\n"), err
    assert f"not in the container: merges.txt; dcomp decode --like {folder} copies them" in err
    assert dcomp("verify", tmp_path / "gpt.dcz", "--against", folder)[0] == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    shutil.move(folder, tmp_path / "away")
    code, out, err = dcomp("decode", tmp_path / "gpt.dcz", "-o", folder)
    assert (code, out) == (0, f"{folder}\n"), err
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert all(before.get(name, content) == content for name, content in after.items())
    assert {"config.json", "generation_config.json", "tokenizer_config.json"} <= set(after)
    for name, tensor in loaded_state(folder).items():
        assert torch.equal(tensor, model.state_dict()[name])


@pytest.mark.parametrize("stage", [PRUNE, ["quantize", "--bits", ".=2"]], ids=lambda stage: stage[0])
def test_a_stage_of_a_folder_writes_a_folder_with_the_files_beside_it(dcomp, tmp_path, model_folder, stage):
    folder, _ = model_folder
    suffix = {"prune": "pruned", "quantize": "quantized"}[stage[0]]
    code, out, err = dcomp(*stage, folder)
    assert (code, out) == (0, f"{folder}.{suffix}\n"), err
    written = tmp_path / f"gpt.{suffix}"
    for name in ("config.json", "merges.txt", "tokenizer_config.json"):
        assert (written / name).read_bytes() == (folder / name).read_bytes()
    assert not list(written.glob("*.bin*"))
    changed = loaded_state(written)["transformer.h.0.attn.c_attn.weight"]
    assert changed.shape == (16, 48)
    assert (changed == 0).any() if suffix == "pruned" else len(changed.unique()) <= 4


def test_files_beside_weights_are_copied_from_a_folder_like_it(dcomp, tmp_path):
    model = hugging_face_folder(tmp_path / "gpt", "safetensors")
    shutil.copy(tmp_path / "gpt" / "model.safetensors", tmp_path / "alone.safetensors")
    assert dcomp("encode", tmp_path / "alone.safetensors")[0] == 0
    code, out, err = dcomp("decode", tmp_path / "alone.dcz", "--like", tmp_path / "gpt")
    assert (code, out) == (0, f"{tmp_path}/alone.decoded\n"), err
    assert {path.name for path in (tmp_path / "alone.decoded").iterdir()} == {
        *("config.json", "generation_config.json", "merges.txt", "model.safetensors", "tokenizer_config.json")
    }
    for name, tensor in loaded_state(tmp_path / "alone.decoded").items():
        assert torch.equal(tensor, model.state_dict()[name])


def test_the_files_of_a_like_folder_win_over_those_in_a_container(dcomp, tmp_path):
    hugging_face_folder(tmp_path / "gpt", "safetensors")
    dcomp("encode", tmp_path / "gpt")
    (tmp_path / "gpt" / "tokenizer_config.json").write_text("{}")
    dcomp("decode", tmp_path / "gpt.dcz", "--like", tmp_path / "gpt", "-o", tmp_path / "out")
    assert (tmp_path / "out" / "tokenizer_config.json").read_text() == "{}"
    assert (tmp_path / "out" / "merges.txt").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--like", "missing"], "--like missing is no folder"),
        (["--like", ".", "-o", "x.pth"], "--like writes a folder: leave --tensor out, and name a folder with -o"),
        (["--like", ".", "-o", "-"], "--like writes a folder"),
        (["--like", ".", "--tensor", "fc"], "--like writes a folder"),
    ],
)
def test_a_like_folder_that_would_do_nothing_is_refused(dcomp, dense_file, monkeypatch, arguments, words):
    monkeypatch.chdir(dense_file.parent)
    dcomp("encode", dense_file)
    code, _, err = dcomp("decode", dense_file.with_suffix(".dcz"), *arguments)
    assert (code, words in err) == (2, True), err


@pytest.mark.parametrize("stage", ["prune --sparsity 0.5", "finetune", "quantize --fc-bits 3"])
def test_a_stage_that_trains_writes_a_folder(dcomp, tmp_path, dense_file, stage):
    folder = tmp_path / "net"
    folder.mkdir()
    dense_file.rename(folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    name, *options = stage.split()
    code, out, err = dcomp(name, folder, *options, "--data", "digits", "--epochs", "1")
    assert code == 0, err
    written = Path(out.strip())
    assert {path.name for path in written.iterdir()} == {"config.json", "model.safetensors"}
    assert load_checkpoint(written / "model.safetensors").metadata.keys() >= {"dcomp.architecture", f"dcomp.{name}"}
    assert {path.name for path in tmp_path.iterdir()} <= {"net", written.name, f".{written.name}.lock"}


def test_a_folder_may_become_one_file_of_torch(dcomp, tmp_path):
    model = hugging_face_folder(tmp_path / "gpt", "safetensors")
    assert dcomp(*PRUNE, tmp_path / "gpt", "-o", tmp_path / "gpt.pth")[0] == 0
    missing = model.load_state_dict(torch.load(tmp_path / "gpt.pth", weights_only=True), strict=False).missing_keys
    assert missing == ["lm_head.weight"]  # which is tied


def test_a_folder_with_one_file_keeps_every_byte(dcomp, tmp_path):
    hugging_face_folder(tmp_path / "gpt", "safetensors")
    before = (tmp_path / "gpt" / "model.safetensors").read_bytes()
    dcomp("encode", tmp_path / "gpt")
    assert dcomp("decode", tmp_path / "gpt.dcz")[:2] == (0, f"{tmp_path}/gpt.decoded\n")
    assert (tmp_path / "gpt.decoded" / "model.safetensors").read_bytes() == before


def test_no_file_of_the_input_folder_is_replaced(dcomp, tmp_path):
    hugging_face_folder(tmp_path / "gpt", "safetensors")
    before = (tmp_path / "gpt" / "model.safetensors").read_bytes()
    code, _, err = dcomp(*PRUNE, tmp_path / "gpt", "-o", tmp_path / "gpt", "--force")
    assert (code, "is the input; name another output" in err) == (1, True)
    assert (tmp_path / "gpt" / "model.safetensors").read_bytes() == before


def test_arrays_of_numpy_may_become_a_file_of_torch(dcomp, tmp_path):
    np.savez(tmp_path / "x.npz", w=np.arange(6.0).reshape(2, 3))
    dcomp("encode", tmp_path / "x.npz")
    assert dcomp("decode", tmp_path / "x.dcz", "-o", tmp_path / "x.pt")[0] == 0
    assert torch.load(tmp_path / "x.pt", weights_only=True)["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
