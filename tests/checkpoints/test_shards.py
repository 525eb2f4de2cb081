"""Sharded checkpoints, written by the safetensors library, through one .dcz and back."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from dcomp.checkpoints import shards
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.errors import CheckpointError

FIRST = "model-00001-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path, rng):
    path = tmp_path / "model"
    path.mkdir()
    files = {
        "model-00001-of-00002.safetensors": {"b": rng.normal(size=(30, 40)), "a": np.zeros((5, 5), np.float32)},
        "model-00002-of-00002.safetensors": {"c": rng.integers(0, 9, 100), "ünïcode": np.ones(3, np.float16)},
    }
    weight_map = {name: file for file, tensors in files.items() for name in tensors}
    for file, tensors in files.items():
        save_file(tensors, path / file, {"format": "pt"})
    index = {"metadata": {"total_size": 123}, "weight_map": dict(sorted(weight_map.items()))}
    (path / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, ensure_ascii=False) + "\n")
    return path


@pytest.mark.parametrize(
    ("source", "stem"), [("model", "model"), ("model/", "model"), ("model/model.safetensors.index.json", "model/model")]
)
def test_a_container_of_shards_keeps_every_byte(dcomp, folder, monkeypatch, source, stem):
    monkeypatch.chdir(folder.parent)
    expected = contents(folder)
    assert dcomp("encode", source)[:2] == (0, f"{stem}.dcz\n")
    assert dcomp("verify", f"{stem}.dcz", "--against", folder)[0] == 0
    code, out, err = dcomp("decode", f"{stem}.dcz")
    assert (code, out) == (0, f"{stem}.decoded\n"), err
    assert contents(folder.parent / f"{stem}.decoded") == expected


def test_shards_may_be_decoded_to_one_file(dcomp, folder, tmp_path):
    dcomp("encode", folder)
    for arguments in (["-o", folder / "all.safetensors"], ["--tensor", "b", "-o", folder / "b"]):
        assert dcomp("decode", tmp_path / "model.dcz", *arguments)[0] == 0
        assert arguments[-1].is_file()


def test_shards_replace_only_files_of_their_names(dcomp, folder, tmp_path):
    """Also the container that they come from stays, where it lies in their folder."""
    expected = contents(folder)
    dcomp("encode", folder, "-o", folder / "x.dcz")
    container = (folder / "x.dcz").read_bytes()
    (folder / FIRST).write_text("old")
    (folder / "mine").write_text("kept")
    code, _, err = dcomp("decode", folder / "x.dcz", "-o", folder)
    assert (code, (folder / FIRST).read_text()) == (1, "old")
    assert "exists; --force replaces the files of the same names in it" in err
    assert dcomp("decode", folder / "x.dcz", "-o", folder, "--force")[:2] == (0, f"{folder}\n")
    assert contents(folder) == {**expected, "mine": b"kept", "x.dcz": container}


def test_a_damaged_container_changes_no_folder(dcomp, folder, tmp_path):
    dcomp("encode", folder)
    data = bytearray((tmp_path / "model.dcz").read_bytes())
    data[-1] ^= 1
    (tmp_path / "model.dcz").write_bytes(data)
    before = contents(folder)
    code, _, err = dcomp("decode", tmp_path / "model.dcz", "-o", folder, "-f")
    assert (code, "its checksum does not match" in err) == (1, True)
    assert contents(folder) == before


def test_a_folder_in_the_place_of_a_shard_is_refused(dcomp, folder, tmp_path):
    dcomp("encode", folder)
    other = tmp_path / "other"
    (other / "model-00002-of-00002.safetensors").mkdir(parents=True)
    (other / FIRST).write_text("old")
    code, _, err = dcomp("decode", tmp_path / "model.dcz", "-o", other, "-f")
    assert (code, "is a folder; name a file" in err) == (1, True)
    assert (other / FIRST).read_text() == "old"


def test_an_empty_folder_takes_shards_without_force(dcomp, folder, tmp_path):
    dcomp("encode", folder)
    (tmp_path / "empty").mkdir()
    assert dcomp("decode", tmp_path / "model.dcz", "-o", tmp_path / "empty")[0] == 0
    assert contents(tmp_path / "empty") == contents(folder)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_the_line_ends_of_an_index_stay(dcomp, folder, tmp_path, ends):
    index = folder / "model.safetensors.index.json"
    index.write_bytes(index.read_bytes().replace(b"\n", ends.encode()))
    dcomp("encode", folder)
    dcomp("decode", tmp_path / "model.dcz")
    assert contents(tmp_path / "model.decoded") == contents(folder)


@pytest.mark.parametrize(
    ("stage", "suffix"), [(["prune", "--sparsity", "0.5"], "pruned"), (["quantize", "--fc-bits", "2"], "quantized")]
)
def test_a_stage_of_shards_writes_shards(dcomp, folder, tmp_path, stage, suffix):
    before = contents(folder)
    code, out, err = dcomp(*stage, folder)
    assert (code, out) == (0, f"{tmp_path / 'model'}.{suffix}\n"), err
    assert contents(folder) == before
    assert contents(tmp_path / f"model.{suffix}").keys() == before.keys()
    assert set(shards.load_index(tmp_path / f"model.{suffix}" / INDEX).tensors) == {"a", "b", "c", "ünïcode"}


def test_a_stage_of_shards_may_write_one_file(dcomp, folder, tmp_path):
    assert dcomp("prune", folder, "--sparsity", "0.5", "-o", tmp_path / "one.safetensors")[0] == 0
    assert (tmp_path / "one.safetensors").is_file()
    code, _, err = dcomp("prune", folder, "--sparsity", "0.5", "-o", tmp_path / "one.safetensors" / "x")
    assert (code, f"{tmp_path / 'one.safetensors'} is a file; name a folder" in err) == (1, True)
    (tmp_path / "file").write_text("mine")
    code, _, err = dcomp("prune", folder, "--sparsity", "0.5", "-o", tmp_path / "file", "-f")
    assert (code, "the checkpoint goes to a folder" in err, (tmp_path / "file").read_text()) == (1, True, "mine")


def test_outputs_have_the_name_of_the_folder(dcomp, folder, tmp_path, monkeypatch):
    dcomp("prune", folder, "--sparsity", "0.5")
    assert dcomp("quantize", tmp_path / "model.pruned", "--fc-bits", "2")[1] == f"{tmp_path}/model.quantized\n"
    monkeypatch.chdir(folder)
    assert dcomp("encode", ".")[1] == f"{tmp_path}/model.dcz\n"


def test_names_that_lost_a_prefix_keep_their_shards(tmp_path):
    one, two, index = "1.safetensors", "2.safetensors", "m.safetensors.index.json"
    text = json.dumps({"weight_map": {"model.a": one, "model.b": two}})
    kept = json.dumps({"index": index, "text": text, "files": {one: {}, two: {}}})
    trained = Checkpoint({"a": np.zeros(3), "b": np.ones(3), "new": np.ones(1)}, {shards.SHARDS_KEY: kept})
    shards.save_folder(shards.reindexed(trained), tmp_path)
    assert json.loads((tmp_path / index).read_text())["weight_map"] == {"a": one, "b": two, "new": one}


def test_other_commands_read_shards(dcomp, folder):
    assert dcomp("report", folder)[0] == 0
    code, _, err = dcomp("prune", folder, "--sparsity", "0.5", "-o", folder / "p.safetensors")
    assert code == 0, err


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def change_index(folder, change):
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


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
    "a name that no file can have": (
        lambda folder: change_index(folder, lambda index: index["weight_map"].update(a="\ud800")),
        "'\\ud800' is not the plain name of a file",
    ),
    "deeply nested JSON": (lambda folder: (folder / INDEX).write_text("[" * 100_000), "is no index of shards"),
    "two indices": (
        lambda folder: (folder / "b.safetensors.index.json").write_text("{}"),
        "2 *.safetensors.index.json in it; name a file",
    ),
}


@pytest.mark.parametrize(("damage", "message"), BREAKS.values(), ids=BREAKS)
def test_a_wrong_index_is_one_error(dcomp, folder, damage, message):
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
        ("[" * 100_000, "do not describe shards"),
        ('{"index": "i", "text": "{}", "files": {"f": 1}}', "do not describe shards"),
        ('{"index": "i", "text": "{}", "files": {}}', "no weight_map"),
        (
            '{"index": "../i", "text": "{\\"weight_map\\": {\\"w\\": \\"f\\"}}", "files": {"f": {}}}',
            "'../i' is not",
        ),
        ('{"index": "i", "text": "{\\"weight_map\\": {\\"w\\": \\"/f\\"}}", "files": {"/f": {}}}', "'/f' is not the"),
        (
            '{"index": "i.safetensors.index.json", "text": "{\\"weight_map\\": {\\"w\\": \\"f.safetensors\\"}}", '
            '"files": {"g.safetensors": {}}}',
            "do not place every",
        ),
        (
            '{"index": "package.json", "text": "{\\"weight_map\\": {\\"w\\": \\"a.py\\"}}", "files": {"a.py": {}}}',
            "name files that are not shards",
        ),
    ],
)
def test_metadata_that_leave_the_folder_are_refused(tmp_path, metadata, message):
    checkpoint = Checkpoint({"w": np.zeros(3)}, {shards.SHARDS_KEY: metadata})
    with pytest.raises(CheckpointError, match=message):
        shards.save_folder(checkpoint, tmp_path)
    assert not list(tmp_path.iterdir())


def read(folder):
    return shards.load_index(folder / "model.safetensors.index.json")


def test_shards_are_read_as_one_checkpoint(folder):
    checkpoint = read(folder)
    assert shards.is_sharded(checkpoint)
    assert not shards.is_sharded(Checkpoint({}, {"other": "metadata"}))
    assert set(checkpoint.tensors) == {"a", "b", "c", "ünïcode"}
    assert checkpoint.tensors["ünïcode"].tolist() == [1, 1, 1]
    assert checkpoint.tensors["b"].shape == (30, 40)


def test_new_metadata_go_to_every_shard(folder, tmp_path):
    checkpoint = read(folder)
    target = tmp_path / "again"
    target.mkdir()
    sizes = []
    shards.save_folder(Checkpoint(checkpoint.tensors, checkpoint.metadata | {"added": "yes"}), target, sizes.append)
    for file in folder.glob("*.safetensors"):
        with safe_open(target / file.name, "numpy") as opened, safe_open(file, "numpy") as source:
            assert opened.metadata() == {"format": "pt", "added": "yes"}
            assert set(opened.keys()) == set(source.keys())
    assert sum(sizes) == sum(array.nbytes for array in checkpoint.tensors.values())


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "c:d", "a\0b"])
def test_a_shard_has_a_plain_name(folder, name):
    change_index(folder, lambda index: index["weight_map"].update(a=name))
    with pytest.raises(CheckpointError, match="is not the plain name of a file, as shards must have"):
        read(folder)


@pytest.mark.parametrize("weight_map", [{}, {"a": 1}, {"a": FIRST, "b": None}, "text"])
def test_a_wrong_weight_map_is_refused(folder, weight_map):
    change_index(folder, lambda index: index.update(weight_map=weight_map))
    with pytest.raises(CheckpointError, match="its weight_map does not map tensors to files"):
        read(folder)


def kept(
    index='"i.safetensors.index.json"',
    text='"{\\"weight_map\\": {\\"w\\": \\"f.safetensors\\"}}"',
    files='{"f.safetensors": {}}',
):
    return f'{{"index": {index}, "text": {text}, "files": {files}}}'


@pytest.mark.parametrize("wrong", [{"index": "1"}, {"text": "1"}, {"files": "[]"}, {"files": '{"f.safetensors": []}'}])
def test_every_part_of_the_metadata_of_shards_is_checked(tmp_path, wrong):
    with pytest.raises(CheckpointError, match="do not describe shards"):
        shards.save_folder(Checkpoint({"w": np.zeros(3)}, {shards.SHARDS_KEY: kept(**wrong)}), tmp_path)
    shards.save_folder(Checkpoint({"w": np.zeros(3)}, {shards.SHARDS_KEY: kept()}), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.safetensors", "i.safetensors.index.json"]


def test_shards_of_another_tool_keep_every_byte(dcomp, folder):
    for path in folder.glob("*.safetensors"):
        data = path.read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.dumps(json.loads(data[8:end]), indent=2, sort_keys=True).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + data[end:])
    assert dcomp("encode", folder, "-o", folder.parent / "m.dcz")[0] == 0
    assert dcomp("decode", folder.parent / "m.dcz", "-o", folder.parent / "again")[0] == 0
    for path in folder.iterdir():
        assert (folder.parent / "again" / path.name).read_bytes() == path.read_bytes()
