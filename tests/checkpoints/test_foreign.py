"""Files of formats that dcomp does not read are refused by their names, with what to export instead."""

import zipfile

import pytest

from dcomp.errors import CheckpointError
from dcomp.sources import load_checkpoint

FILES = {
    "x.gguf": (b"GGUF\3\0\0\0", "a GGUF file, which dcomp does not read: name the safetensors file"),
    "no_suffix": (b"GGUF\3\0\0\0", "a GGUF file"),
    "x.h5": (b"\x89HDF\r\n\x1a\n" + bytes(9), "an HDF5 file, which dcomp does not read: in Keras, load the model"),
    "y.weights": (b"\x89HDF\r\n\x1a\n" + bytes(9), r"an HDF5 file, .* numpy\.savez"),
    "x.tflite": (b"\x1c\0\0\0TFL3", "a TFLite model"),
    "x.onnx": (b"\x08\x07\x12\x07pytorch", r"an ONNX model, which dcomp does not read: save the state_dict\(\)"),
    "X.ONNX": (b"\x08\x07\x12\x07pytorch", "an ONNX model"),
    "x.mlmodel": (b"\x08\x01\x12\x01", "a Core ML model"),
    "saved_model.pb": (b"\x08\x01\x12\x01", "a TensorFlow graph"),
    "flax_model.msgpack": (b"\x81\xa1w\xc7", r"a Flax checkpoint, .* safetensors\.flax\.save_file"),
}


@pytest.mark.parametrize("name", FILES)
def test_other_formats_are_refused_by_name(tmp_path, name):
    content, words = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name} is {words}"):
        load_checkpoint(tmp_path / name)


def test_a_keras_file_is_no_file_of_torch(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", b"\x89HDF")
    with pytest.raises(CheckpointError, match="is a Keras model"):
        load_checkpoint(tmp_path / "x.keras")


def test_a_folder_of_core_ml_is_refused_by_its_name(dcomp, tmp_path):
    (tmp_path / "x.mlpackage").mkdir()
    code, _, err = dcomp("encode", tmp_path / "x.mlpackage")
    assert (code, "x.mlpackage is a Core ML model, which dcomp does not read: save the state_dict()" in err) == (
        1,
        True,
    )


def test_the_first_bytes_win_over_a_name(dense_file, tmp_path):
    (tmp_path / "x.onnx").write_bytes(dense_file.read_bytes())
    assert "fc1.weight" in load_checkpoint(tmp_path / "x.onnx").tensors


def test_what_no_format_is_lists_those_that_are_read(tmp_path):
    (tmp_path / "x").write_text("garbage")
    words = r"x is not a checkpoint: dcomp reads \.dcz .*, safetensors files, numpy's \.npz and files that torch saved"
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(tmp_path / "x")
