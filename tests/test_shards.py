"""Sharded checkpoints, written by the safetensors library, through one .dcz and back."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from dcomp import shards
from dcomp.checkpoint import Checkpoint
from dcomp.errors import CheckpointError


@pytest.fixture
def folder(tmp_path, rng):
    made = tmp_path / "model"
    made.mkdir()
    files = {
        "model-00001-of-00002.safetensors": {"b": rng.normal(size=(30, 40)), "a": np.zeros((5, 5), np.float32)},
        "model-00002-of-00002.safetensors": {"c": rng.integers(0, 9, 100), "ünïcode": np.ones(3, np.float16)},
    }
    weight_map = {name: file for file, tensors in files.items() for name in tensors}
    for file, tensors in files.items():
        save_file(tensors, made / file, {"format": "pt"})
    index = {"metadata": {"total_size": 123}, "weight_map": dict(sorted(weight_map.items()))}
    (made / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, ensure_ascii=False) + "\n")
    return made


@pytest.mark.parametrize("given", ["model", "model/model.safetensors.index.json"])
def test_shards_go_into_one_container_and_come_back_byte_for_byte(dcomp, folder, monkeypatch, given):
    monkeypatch.chdir(folder.parent)
    assert dcomp("encode", given)[:2] == (0, "model/model.dcz\n")
    assert dcomp("verify", "model/model.dcz", "--against", "model/model.safetensors.index.json")[0] == 0
    code, out, err = dcomp("decode", "model/model.dcz")
    assert (code, out) == (0, "model/model.decoded\n"), err
    back = folder / "model.decoded"
    expected = {path.name: path.read_bytes() for path in folder.glob("*.safetensors*")}
    assert {path.name: path.read_bytes() for path in back.iterdir()} == expected


def test_shards_come_back_as_one_file_where_that_is_asked_for(dcomp, folder):
    dcomp("encode", folder)
    for arguments in (["-o", folder / "all.safetensors"], ["--tensor", "b", "-o", folder / "b"]):
        assert dcomp("decode", folder / "model.dcz", *arguments)[0] == 0
        assert arguments[-1].is_file()


def test_an_existing_folder_needs_force(dcomp, folder):
    dcomp("encode", folder)
    dcomp("decode", folder / "model.dcz")
    (folder / "model.decoded" / "mine").write_text("kept")
    code, _, err = dcomp("decode", folder / "model.dcz")
    assert (code, (folder / "model.decoded" / "mine").exists()) == (1, True)
    assert "exists; --force replaces a folder" in err
    assert dcomp("decode", folder / "model.dcz", "--force")[0] == 0
    assert not (folder / "model.decoded" / "mine").exists()
    assert not list(folder.glob(".dcomp-*"))


def test_other_commands_read_shards_like_any_checkpoint(dcomp, folder):
    assert dcomp("report", folder)[0] == 0
    code, _, err = dcomp("prune", folder, "--sparsity", "0.5", "-o", folder / "p.safetensors")
    assert code == 0, err


def change_index(folder, change):
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


FIRST = "model-00001-of-00002.safetensors"
BREAKS = {
    "a shard that is missing": (lambda folder: (folder / FIRST).unlink(), f"names the shard {FIRST}, which is not"),
    "a tensor that no shard holds": (
        lambda folder: change_index(folder, lambda index: index["weight_map"].update(d=FIRST)),
        f"lists the tensor 'd' in {FIRST}, which does not hold it",
    ),
    "a tensor that is not listed": (
        lambda folder: change_index(folder, lambda index: index["weight_map"].pop("a")),
        f"{FIRST} holds the tensor 'a', which model.safetensors.index.json does not list",
    ),
    "a name that leads elsewhere": (
        lambda folder: change_index(folder, lambda index: index["weight_map"].update(a="../x.safetensors")),
        "'../x.safetensors' is not the plain name of a file",
    ),
    "no weight map": (lambda folder: change_index(folder, lambda index: index.pop("weight_map")), "has no weight_map"),
    "another map": (
        lambda folder: change_index(folder, lambda index: index.update(weight_map=[1])),
        "does not map tensors to files",
    ),
    "two indices": (
        lambda folder: (folder / "b.safetensors.index.json").write_text("{}"),
        "2 *.safetensors.index.json in it; name a file",
    ),
}


@pytest.mark.parametrize(("damage", "message"), BREAKS.values(), ids=BREAKS)
def test_an_index_that_does_not_fit_is_one_error(dcomp, folder, damage, message):
    damage(folder)
    code, out, err = dcomp("encode", folder)
    assert (code > 0, out, err.count("\n")) == (True, "", 1)
    assert message in err
    assert not list(folder.glob("*.dcz"))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("junk", "do not describe shards"),
        ("{}", "do not describe shards"),
        ('{"index": "i", "text": "{}", "files": {"f": 1}}', "do not describe shards"),
        ('{"index": "i", "text": "{}", "files": {}}', "no weight_map"),
        (
            '{"index": "../i", "text": "{\\"weight_map\\": {\\"w\\": \\"f\\"}}", "files": {"f": {}}}',
            "'../i' is not",
        ),
        ('{"index": "i", "text": "{\\"weight_map\\": {\\"w\\": \\"/f\\"}}", "files": {"/f": {}}}', "'/f' is not the"),
        ('{"index": "i", "text": "{\\"weight_map\\": {\\"w\\": \\"f\\"}}", "files": {"g": {}}}', "do not place every"),
        ('{"index": "f", "text": "{\\"weight_map\\": {\\"w\\": \\"f\\"}}", "files": {"f": {}}}', "do not place every"),
    ],
)
def test_metadata_that_would_write_elsewhere_are_refused(tmp_path, metadata, message):
    checkpoint = Checkpoint({"w": np.zeros(3)}, {shards.METADATA_KEY: metadata})
    with pytest.raises(CheckpointError, match=message):
        shards.save_folder(checkpoint, tmp_path)
    assert not list(tmp_path.iterdir())


def read(folder):
    return shards.load_index(folder / "model.safetensors.index.json")


def test_shards_are_one_checkpoint_in_the_order_of_the_index(folder):
    checkpoint = read(folder)
    assert shards.is_sharded(checkpoint)
    assert not shards.is_sharded(Checkpoint({}, {"other": "metadata"}))
    assert set(checkpoint.tensors) == {"a", "b", "c", "ünïcode"}
    assert checkpoint.tensors["ünïcode"].tolist() == [1, 1, 1]
    assert checkpoint.tensors["b"].shape == (30, 40)


def test_metadata_that_were_added_go_to_every_shard_and_others_stay(folder, tmp_path):
    checkpoint = read(folder)
    target = tmp_path / "again"
    target.mkdir()
    told = []
    shards.save_folder(Checkpoint(checkpoint.tensors, checkpoint.metadata | {"added": "yes"}), target, told.append)
    for file in folder.glob("*.safetensors"):
        with safe_open(target / file.name, "numpy") as opened, safe_open(file, "numpy") as source:
            assert opened.metadata() == {"format": "pt", "added": "yes"}
            assert set(opened.keys()) == set(source.keys())
    assert sum(told) == sum(array.nbytes for array in checkpoint.tensors.values())


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "c:d", "a\0b"])
def test_a_shard_has_a_plain_name(folder, name):
    change_index(folder, lambda index: index["weight_map"].update(a=name))
    with pytest.raises(CheckpointError, match="is not the plain name of a file, as shards must have"):
        read(folder)


@pytest.mark.parametrize("weight_map", [{}, {"a": 1}, {"a": FIRST, "b": None}, "text"])
def test_a_weight_map_that_maps_no_tensors_to_files_is_refused(folder, weight_map):
    change_index(folder, lambda index: index.update(weight_map=weight_map))
    with pytest.raises(CheckpointError, match="its weight_map does not map tensors to files"):
        read(folder)


def kept(index='"i"', text='"{\\"weight_map\\": {\\"w\\": \\"f\\"}}"', files='{"f": {}}'):
    return f'{{"index": {index}, "text": {text}, "files": {files}}}'


@pytest.mark.parametrize("wrong", [{"index": "1"}, {"text": "1"}, {"files": "[]"}, {"files": '{"f": []}'}])
def test_every_part_of_the_metadata_of_shards_is_checked(tmp_path, wrong):
    with pytest.raises(CheckpointError, match="do not describe shards"):
        shards.save_folder(Checkpoint({"w": np.zeros(3)}, {shards.METADATA_KEY: kept(**wrong)}), tmp_path)
    shards.save_folder(Checkpoint({"w": np.zeros(3)}, {shards.METADATA_KEY: kept()}), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "i"]
