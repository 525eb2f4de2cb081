"""`--json` of the commands that write: one JSON document on standard output."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

EPOCHS = ["--data", "digits", "--epochs", "2", "--device", "cpu"]


@pytest.fixture
def narrow(monkeypatch):
    """A terminal so narrow that whatever wraps lines would break the document."""
    monkeypatch.setenv("COLUMNS", "20")


def document_of(result):
    code, out, err = result
    assert code == 0, err
    return json.loads(out)


def test_train_lists_its_epochs_as_json(dcomp, tmp_path, narrow):
    path = tmp_path / f"{'long name ' * 9}.safetensors"
    document = document_of(dcomp("train", "lenet300", *EPOCHS, "--json", "-q", "-o", path))
    assert (document["command"], document["path"], document["bytes"]) == ("train", str(path), path.stat().st_size)
    assert [epoch["epoch"] for epoch in document["epochs"]] == [1, 2]
    errors = [epoch["val_error"] for epoch in document["epochs"]]
    assert document["kept_epoch"]["val_error"] == errors[document["kept_epoch"]["epoch"] - 1] == min(errors)
    assert [
        note
        for note in document["notes"]
        if note.startswith(f"epoch {document['kept_epoch']['epoch']} of 2 kept: lowest")
    ]
    assert {tensor["name"] for tensor in document["tensors"]} == set(load_file(path))
    assert document["sparsity"] < 0.01


def test_prune_lists_the_sparsity_of_each_tensor(dcomp, dense_file):
    document = document_of(dcomp("prune", dense_file, "--layer", "fc2=0.75", "--json"))
    tensors = {tensor["name"]: tensor for tensor in document["tensors"]}
    assert document["path"] == str(dense_file.with_name("lenet300.pruned.safetensors"))
    assert tensors["fc2.weight"] == {"name": "fc2.weight", "dtype": "F32", "shape": [100, 300], "sparsity": 0.75}
    assert tensors["fc1.weight"]["sparsity"] == 0
    assert document["sparsity"] == pytest.approx(0.75 * 30_000 / 266_200)
    assert (document["epochs"], document["kept_epoch"]) == ([], None)
    assert any("weights kept" in note for note in document["notes"])


def test_the_bytes_of_shards_do_not_count_other_files(dcomp, tmp_path):
    (tmp_path / "m").mkdir()
    for name in "ab":
        save_file({name: np.ones((30, 40), np.float32)}, tmp_path / "m" / f"{name}.safetensors")
    index = {"metadata": {}, "weight_map": {name: f"{name}.safetensors" for name in "ab"}}
    (tmp_path / "m" / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "out" / "folder").mkdir(parents=True)
    (tmp_path / "out" / "other").write_bytes(bytes(10**6))
    document = document_of(dcomp("prune", tmp_path / "m", "--sparsity", "0.5", "-o", tmp_path / "out", "-f", "--json"))
    written = [file for file in (tmp_path / "out").iterdir() if file.name not in ("folder", "other")]
    assert len(written) == 3
    assert document["bytes"] == sum(file.stat().st_size for file in written)


def test_quantize_lists_values_and_bits_of_each_tensor(dcomp, tmp_path, narrow):
    pruned = np.where(np.arange(1000) % 2, np.linspace(-1, 1, 1000), 0).astype(np.float32).reshape(10, 100)
    save_file({"fc.weight": pruned, "none.weight": np.zeros((2, 2), np.float32)}, tmp_path / "a.safetensors")
    document = document_of(dcomp("quantize", tmp_path / "a.safetensors", "--bits", "^fc=3", "--json", "-q"))
    assert [(tensor["values"], tensor["bits"]) for tensor in document["tensors"]] == [(8, 3), (0, 0)]
    assert document["tensors"][0]["sparsity"] == 0.5


def test_a_tensor_of_different_elements_has_no_values_and_no_bits(dcomp, tmp_path, narrow):
    weight, bias = np.linspace(-1, 1, 120, dtype=np.float32).reshape(12, 10), np.linspace(1, 2, 12, dtype=np.float32)
    save_file({"fc.bias": bias, "fc.weight": weight}, tmp_path / "a.safetensors")
    document = document_of(dcomp("quantize", tmp_path / "a.safetensors", "--fc-bits", "3", "--json", "-q"))
    figures = {tensor["name"]: (tensor["values"], tensor["bits"]) for tensor in document["tensors"]}
    assert figures == {"fc.weight": (8, 3), "fc.bias": (None, None)}


def test_encode_lists_the_bytes_of_each_tensor_as_json(dcomp, dense_file, narrow):
    tried = document_of(dcomp("encode", dense_file, "--dry-run", "--json"))
    document = document_of(dcomp("encode", dense_file, "--json"))
    container = dense_file.with_name("lenet300.dcz")
    assert document["path"] == str(container)
    assert document["bytes"] == tried["bytes"] == container.stat().st_size
    assert document["ratio"] == pytest.approx(document["dense_bytes"] / document["bytes"])
    assert [tensor["name"] for tensor in document["tensors"]] == list(load_file(dense_file))
    assert sum(tensor["bytes"] for tensor in document["tensors"]) < document["bytes"]
    assert (tried["command"], tried["path"]) == ("encode", None)


def test_decode_describes_its_output(dcomp, dense_file):
    dcomp("encode", dense_file)
    document = document_of(dcomp("decode", dense_file.with_name("lenet300.dcz"), "--json"))
    path = dense_file.with_name("lenet300.decoded.safetensors")
    assert document == {
        "command": "decode",
        "path": str(path),
        "tensor_count": 6,
        "dense_bytes": 1_066_440,
        "bytes": path.stat().st_size,
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "lenet300", *EPOCHS],
        ["prune", "lenet300.safetensors", "--sparsity", "0.9"],
        ["quantize", "lenet300.safetensors", "--fc-bits", "5"],
        ["encode", "lenet300.safetensors"],
        ["decode", "lenet300.dcz"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_document_and_a_result_do_not_share_standard_output(dcomp, dense_file, monkeypatch, arguments):
    monkeypatch.chdir(dense_file.parent)
    dcomp("encode", dense_file)
    code, out, err = dcomp(*arguments, "--json", "-o", "-")
    assert (code, out) == (2, "")
    assert err == "error: --json prints on standard output, where the result would go: name a file with -o\n"
