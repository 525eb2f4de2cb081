"""numpy's .npz files, written by numpy and read by it."""

import io
import zipfile

import ml_dtypes
import numpy as np
import pytest

from dcomp.checkpoints import npz_file
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.errors import CheckpointError
from dcomp.sources import load_checkpoint

DTYPES = ["?", "i1", "u2", "i4", "u8", "f2", "f4", "f8", "c8"]


@pytest.fixture
def arrays(rng):
    named = {f"layer.{dtype}": rng.integers(0, 5, (3, 4)).astype(dtype) for dtype in DTYPES}
    turned = np.asfortranarray(rng.normal(size=(5, 3)))
    return {**named, "scalar": np.float32(3), "none": np.zeros((0, 3)), "a/b": np.ones(2), "turned": turned}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_numpy_go_through_a_container_and_back(dcomp, tmp_path, arrays, save):
    save(tmp_path / "model.npz", **arrays)
    assert dcomp("encode", tmp_path / "model.npz")[:2] == (0, f"{tmp_path}/model.dcz\n")
    assert dcomp("verify", tmp_path / "model.dcz", "--against", tmp_path / "model.npz")[0] == 0
    assert dcomp("decode", tmp_path / "model.dcz", "-o", tmp_path / "again.npz")[0] == 0
    with np.load(tmp_path / "again.npz", allow_pickle=False) as again:
        assert again.files == list(arrays)
        for name, array in arrays.items():
            assert again[name].dtype == array.dtype
            assert np.array_equal(again[name], array)


def test_big_endian_arrays_keep_their_values(tmp_path):
    np.savez(tmp_path / "x.npz", w=np.arange(3, dtype=">f4"))
    array = load_checkpoint(tmp_path / "x.npz").tensors["w"]
    assert (array.dtype, array.tolist()) == (np.dtype("<f4"), [0, 1, 2])


def test_the_same_tensors_give_the_same_bytes(arrays):
    written = [io.BytesIO(), io.BytesIO()]
    for stream in written:
        npz_file.save(Checkpoint(arrays, {"left": "out"}), stream)
    assert written[0].getvalue() == written[1].getvalue()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"w": np.array([{}], object)}, "'w' holds Python objects, which can run code when read"),
        ({"w": np.array(["text"])}, "'w' has dtype <U4, which safetensors does not know"),
        ({"w": np.ones(2, np.complex128)}, "'w' has dtype complex128"),
        ({"w": np.ones(2, ml_dtypes.bfloat16)}, r"'w' has dtype \|V2"),
    ],
)
def test_arrays_that_no_checkpoint_holds_are_refused(tmp_path, arrays, words):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(tmp_path / "x.npz")


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_a_dtype_that_numpy_lacks_is_one_error(dcomp, tmp_path, dtype):
    with pytest.raises(CheckpointError, match=r"numpy has no dtype for tensor 'w', .* \.safetensors or \.pth"):
        npz_file.save(Checkpoint({"w": np.ones(2, dtype)}), io.BytesIO())


def test_a_name_that_a_zip_file_cuts_is_refused():
    with pytest.raises(CheckpointError, match=r"no \.npz file can hold the name"):
        npz_file.save(Checkpoint({"a\0b": np.ones(2)}), io.BytesIO())


def test_a_small_file_cannot_ask_for_much_memory(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", w=np.zeros(1 << 20))
    with pytest.raises(CheckpointError, match=r"unpacks to 8,388,\d\d\d bytes, more than the limit of 1,000,000"):
        load_checkpoint(tmp_path / "x.npz", max_memory=1_000_000)


def changed(path, change):
    """Write a zip file again with changed parts."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in change(parts).items():
            archive.writestr(name, data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda parts: {**parts, "readme": b"x"}, "holds 'readme' which is no array"),
        (lambda parts: {"w.npy": parts["w.npy"][:-4]}, "'w': it has 12 bytes in place of 16"),
        (lambda parts: {"w.npy": parts["w.npy"].replace(b"(4,)", b"(9,)")}, "'w': it has 16 bytes in place of 36"),
        (lambda parts: {"w.npy": parts["w.npy"].replace(b"(4,)", b"(-4,)")}, "'w': "),
        (lambda parts: {"w.npy": b"garbage"}, "'w': "),
        (lambda parts: {"w.npy": b""}, "'w': "),
    ],
    ids=["no array", "cut", "larger", "negative", "garbage", "empty"],
)
def test_damaged_arrays_are_refused(tmp_path, change, words):
    np.savez(tmp_path / "x.npz", w=np.ones(4, np.float32))
    changed(tmp_path / "x.npz", change)
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(tmp_path / "x.npz")


def test_a_flipped_bit_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", w=np.arange(1000))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[4000] ^= 1
    (tmp_path / "x.npz").write_bytes(data)
    read = load_checkpoint(tmp_path / "x.npz").tensors
    with pytest.raises(CheckpointError, match="'w': Bad CRC-32"):
        read["w"]


def test_arrays_that_overlap_or_occur_twice_are_refused(tmp_path):
    import copy

    path = tmp_path / "x.npz"
    np.savez(path, w=np.zeros(1 << 13))
    for message, name in (("overlap", "v.npy"), (r"holds 'w\.npy' twice", "w.npy")):
        with zipfile.ZipFile(path, "a") as archive:
            for _ in range(9 if name == "v.npy" else 0):
                info = copy.copy(archive.filelist[0])
                info.filename = name
                archive.filelist.append(info)
            if name == "w.npy":
                with pytest.warns(UserWarning, match="Duplicate"):
                    archive.writestr(name, archive.read("w.npy"))
            archive._didModify = True
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(path)
        np.savez(path, w=np.zeros(1 << 13))


def test_an_empty_or_damaged_file_is_called_by_its_name(tmp_path):
    np.savez(tmp_path / "empty.npz")
    np.savez(tmp_path / "cut.npz", w=np.ones(3))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"empty\.npz holds no arrays"):
        load_checkpoint(tmp_path / "empty.npz")
    with pytest.raises(CheckpointError, match=r"cut\.npz is not a readable \.npz file: File is not a zip file"):
        load_checkpoint(tmp_path / "cut.npz")
