"""Sharded checkpoints, written by the safetensors library, through one .dcz and back."""

import json

import numpy as np
import pytest
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


def test_shards_of_another_tool_come_back_byte_for_byte(dcomp, folder):
    for path in folder.glob("*.safetensors"):
        data = path.read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.dumps(json.loads(data[8:end]), indent=2, sort_keys=True).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + data[end:])
    assert dcomp("encode", folder, "-o", folder.parent / "m.dcz")[0] == 0
    assert dcomp("decode", folder.parent / "m.dcz", "-o", folder.parent / "again")[0] == 0
    for path in folder.iterdir():
        assert (folder.parent / "again" / path.name).read_bytes() == path.read_bytes()
