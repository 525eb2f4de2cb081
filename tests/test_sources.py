"""Tests of the files of a checkpoint: which they are, whether they can be read, and their digest."""

import hashlib
import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from dcomp import sources
from dcomp.errors import CheckpointError, UsageError

INDEX = "model.safetensors.index.json"


@pytest.fixture
def file(tmp_path):
    save_file({"w": np.ones(3)}, tmp_path / "one.safetensors")
    return tmp_path / "one.safetensors"


@pytest.fixture
def folder(tmp_path):
    """A folder of one index and two shards."""
    path = tmp_path / "model"
    path.mkdir()
    shards = {"a": "1.safetensors", "b": "2.safetensors"}
    for name, shard in shards.items():
        save_file({name: np.ones(3)}, path / shard)
    (path / INDEX).write_text(json.dumps({"weight_map": shards}))
    return path


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_a_file_is_its_only_file(file):
    assert sources.weights_or_file(file) == file
    assert sources.files_of(file) == [file]


def test_a_folder_has_the_files_of_its_index(folder):
    assert sources.weights_or_file(folder) == folder / INDEX
    files = [folder / INDEX, folder / "1.safetensors", folder / "2.safetensors"]
    assert sources.files_of(folder) == sources.files_of(folder / INDEX) == files


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], r"without model\.safetensors, pytorch_model\.bin or an index; name a file"),
        ([INDEX, f"other.{INDEX}"], r"with 2 \*\.safetensors\.index\.json in it; name a file"),
        (["a_model.bin", "b_model.bin"], r"with 2 \*_model\.bin in it; name a file"),
    ],
)
def test_a_folder_needs_one_checkpoint(tmp_path, names, words):
    for name in names:
        (tmp_path / name).write_text("{}")
    for function in (sources.weights_or_file, sources.files_of, sources.digest, sources.check_openable):
        with pytest.raises(UsageError, match=f"is a folder {words}"):
            function(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        [INDEX, "model.safetensors"],
        ["model.safetensors", "pytorch_model.bin", "consolidated.safetensors"],
        ["diffusion_pytorch_model.safetensors", "pytorch_model.bin"],
        ["pytorch_model.bin.index.json", "pytorch_model.bin"],
        ["pytorch_model.bin", "training_args.bin", "optimizer.bin"],
    ],
)
def test_the_checkpoint_of_a_folder_is_the_one_that_its_libraries_load(tmp_path, names):
    for name in names:
        (tmp_path / name).write_text("{}")
    assert sources.weights_or_file(tmp_path) == tmp_path / names[0]


def test_the_digest_of_a_file_is_that_of_its_bytes(file):
    assert sources.digest(file) == sha256(file.read_bytes())


def test_the_digest_of_shards_is_that_of_their_digests(folder):
    digests = "".join(sha256(path.read_bytes()) for path in sources.files_of(folder))
    assert sources.digest(folder) == sources.digest(folder / INDEX) == sha256(digests.encode())


def test_a_missing_file_cannot_be_opened(tmp_path):
    with pytest.raises(CheckpointError, match=r"^cannot read .*none: No such file or directory$"):
        sources.check_openable(tmp_path / "none")


def test_files_that_exist_can_be_opened(file, folder):
    sources.check_openable(file)
    sources.check_openable(folder)
    assert list(sources.load_checkpoint(folder).tensors) == ["a", "b"]
