import io
import json

import numpy as np
import pytest
import safetensors.numpy

from dcomp import checkpoint, dtypes
from dcomp.checkpoint import Checkpoint
from dcomp.errors import CheckpointError


def save(made: Checkpoint) -> bytes:
    buffer = io.BytesIO()
    checkpoint.save(made, buffer)
    return buffer.getvalue()


def write(path, header: dict, data: bytes):
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize("name", dtypes.BY_NAME)
def test_every_dtype_survives_a_safetensors_file(tmp_path, name, rng):
    raw = rng.integers(0, 2, 24 * dtypes.BY_NAME[name].itemsize, np.uint8)
    array = raw.view(dtypes.BY_NAME[name]).reshape(2, 3, 4)
    path = tmp_path / "x.safetensors"
    path.write_bytes(save(Checkpoint({"t": array, "scalar": array[0, 0, 0].reshape(()), "empty": array[:, :0]})))
    read = checkpoint.load_file(path).tensors
    assert read["t"].dtype == array.dtype
    assert read["t"].tobytes() == array.tobytes()
    assert (read["scalar"].shape, read["empty"].shape) == ((), (2, 0, 4))


def test_a_file_of_the_safetensors_library_comes_back_byte_for_byte(tmp_path):
    tensors = {"b": np.ones((2, 3), np.float32), "a": np.arange(3, dtype=np.int8), "ü": np.ones(5, np.float16)}
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors.numpy.save(tensors, {"one": "1", "zwei": "zwö", "three": "3"}))
    assert save(checkpoint.load_file(path)) == path.read_bytes()


def test_the_safetensors_library_reads_what_is_written(lenet_like):
    read = safetensors.numpy.load(save(lenet_like))
    assert all(np.array_equal(read[name], array) for name, array in lenet_like.tensors.items())


def test_loaded_tensors_are_views_of_the_file(dense_file):
    array = checkpoint.load_file(dense_file).tensors["fc1.weight"]
    assert not array.flags.owndata
    assert not array.flags.writeable


@pytest.mark.parametrize(
    "content",
    [b"", b"short", b"\xff" * 40, (10).to_bytes(8, "little") + b"not json  ", (2).to_bytes(8, "little") + b"{}x"],
)
def test_a_broken_file_is_refused(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        checkpoint.load_file(path)


def test_tensors_that_overlap_are_refused(tmp_path):
    entry = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
    with pytest.raises(CheckpointError):
        checkpoint.load_file(write(tmp_path / "x", {"a": entry, "b": entry}, bytes(4)))


def test_a_dtype_that_numpy_lacks_is_refused_by_name(tmp_path):
    path = write(tmp_path / "x", {"t": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}, b"\x12")
    with pytest.raises(CheckpointError, match="tensor 't' has dtype F4"):
        checkpoint.load_file(path)
