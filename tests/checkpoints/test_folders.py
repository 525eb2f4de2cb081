"""Folders of Hugging Face's libraries: what of them a checkpoint keeps, and hostile metadata."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dcomp.checkpoints import folders, shards
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.errors import CheckpointError
from dcomp.sources import load_checkpoint


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    save_file({"w": np.ones(3)}, path / "model.safetensors", {"format": "pt"})
    for name, text in {"config.json": '{"a": 1}', "chat.jinja": "{{ x }}", "vocab.txt": "a\nb", ".hidden": "x"}.items():
        (path / name).write_text(text)
    for name in ("optimizer.pt", "model.onnx", "rng_state.pth", "other.safetensors.index.json.bak.npz"):
        (path / name).write_bytes(b"weights")
    (path / "runs").mkdir()
    return path


def test_weights_folders_and_hidden_files_are_not_beside_a_checkpoint(folder):
    assert [path.name for path in folders.files_beside(folder)] == ["chat.jinja", "config.json", "vocab.txt"]
    assert folders.files_left_out(folder) == ["vocab.txt"]


def test_small_texts_are_kept_and_large_ones_are_not(folder):
    (folder / "tokenizer.json").write_text("x" * (folders.MAX_TEXT_BYTES + 1))
    (folder / "latin.json").write_bytes(b"\xe9")
    entry = json.loads(load_checkpoint(folder).metadata[folders.FOLDER_KEY])
    assert entry == {"weights": "model.safetensors", "texts": {"config.json": '{"a": 1}', "chat.jinja": "{{ x }}"}}


def test_a_file_in_a_folder_is_read_without_the_folder(folder):
    assert load_checkpoint(folder / "model.safetensors").metadata == {"format": "pt"}


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.safetensors", "adapter_model.safetensors"])
def test_weights_keep_their_name(dcomp, folder, tmp_path, name):
    (folder / "model.safetensors").rename(folder / name)
    assert dcomp("encode", folder)[0] == 0
    assert dcomp("decode", tmp_path / "model.dcz", "-o", tmp_path / "again")[0] == 0
    assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("pytorch_model.bin", "model.safetensors"),
        ("pytorch_model-00001-of-00002.bin", "model-00001-of-00002.safetensors"),
        ("pytorch_model.bin.index.json", "model.safetensors.index.json"),
        ("adapter_model.bin", "adapter_model.safetensors"),
        ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors"),
        ("model.safetensors", "model.safetensors"),
    ],
)
def test_files_of_torch_are_written_as_safetensors_files(name, written):
    assert shards.written_name(name) == written


def test_a_checkpoint_from_elsewhere_becomes_a_file_that_transformers_loads(tmp_path):
    folders.save(Checkpoint({"w": np.ones(2)}, {"a": "b"}), tmp_path)
    assert load_file(tmp_path / "model.safetensors")["w"].tolist() == [1, 1]
    assert load_checkpoint(tmp_path / "model.safetensors").metadata == {"format": "pt", "a": "b"}


PLAIN = "is not the plain name of a file"
OTHER = "name files that are no checkpoint, or no texts beside one"
NONE = "do not describe a folder"
HOSTILE = {
    "no JSON": ("x", NONE),
    "deeply nested JSON": ("[" * 100_000, NONE),
    "no texts": ('{"weights": "a.safetensors"}', NONE),
    "a list of texts": ('{"weights": "a.safetensors", "texts": ["x"]}', NONE),
    "a text that is none": ('{"weights": "a.safetensors", "texts": {"a.json": 3}}', NONE),
    "weights that are no name": ('{"weights": 3, "texts": {}}', NONE),
    "weights elsewhere": ('{"weights": "../a.safetensors", "texts": {}}', PLAIN),
    "texts elsewhere": ('{"weights": "a.safetensors", "texts": {"/tmp/a.json": ""}}', PLAIN),
    "a hidden text": ('{"weights": "a.safetensors", "texts": {".a.json": ""}}', OTHER),
    "a program": ('{"weights": "a.safetensors", "texts": {"a.py": ""}}', OTHER),
    "weights of another kind": ('{"weights": "a.sh", "texts": {}}', OTHER),
    "an index": ('{"weights": "a.safetensors", "texts": {"a.safetensors.index.json": ""}}', OTHER),
}


@pytest.mark.parametrize(("entry", "words"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_metadata_write_nothing(dcomp, tmp_path, entry, words):
    checkpoint = Checkpoint({"w": np.ones(2)}, {folders.FOLDER_KEY: entry})
    with pytest.raises(CheckpointError, match=words):
        folders.save(checkpoint, tmp_path)
    assert not list(tmp_path.iterdir())
    save_file(checkpoint.tensors, tmp_path / "x.safetensors", checkpoint.metadata)
    assert dcomp("encode", tmp_path / "x.safetensors")[0] == 0
    code, _, err = dcomp("decode", tmp_path / "x.dcz", "-o", tmp_path / "out")
    assert (code, words in err, (tmp_path / "out").exists()) == (1, True, False)
    assert dcomp("decode", tmp_path / "x.dcz", "-o", tmp_path / "one.safetensors")[0] == 0


def test_a_link_out_of_a_folder_is_not_taken_and_is_named(folder, tmp_path):
    (tmp_path / "secret").write_text("password")
    (folder / "vocab.json").symlink_to(tmp_path / "secret")
    (folder / "merges.txt").symlink_to("../secret")
    (folder / "special.json").symlink_to("config.json")
    notes = []
    metadata = load_checkpoint(folder, note=notes.append).metadata
    assert notes == [f"{folder}: merges.txt, vocab.json: links to files outside of the folder, which are left out"]
    assert "password" not in str(metadata)
    assert [path.name for path in folders.files_beside(folder)][2:] == ["special.json", "vocab.txt"]


def test_the_links_of_hugging_face_s_cache_are_followed(folder, tmp_path):
    blobs, snapshot = tmp_path / "hub/blobs", tmp_path / "hub/snapshots/1"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for name in ("model.safetensors", "config.json"):
        (folder / name).rename(blobs / name)
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    entry = json.loads(load_checkpoint(snapshot).metadata[folders.FOLDER_KEY])
    assert entry["texts"] == {"config.json": '{"a": 1}'}
