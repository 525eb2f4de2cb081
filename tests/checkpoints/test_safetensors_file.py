import io
import json
import os

import numpy as np
import pytest
import safetensors.numpy

from dcomp.checkpoints import dtypes, safetensors_file
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.container.reader import Container
from dcomp.errors import CheckpointError, ContainerError
from dcomp.sources import load_checkpoint, load_container


def save(checkpoint: Checkpoint) -> bytes:
    buffer = io.BytesIO()
    safetensors_file.save(checkpoint, buffer)
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
    read = safetensors_file.load_file(path).tensors
    assert read["t"].dtype == array.dtype
    assert read["t"].tobytes() == array.tobytes()
    assert (read["scalar"].shape, read["empty"].shape) == ((), (2, 0, 4))


def test_a_file_of_the_library_keeps_every_byte(tmp_path):
    tensors = {"b": np.ones((2, 3), np.float32), "a": np.arange(3, dtype=np.int8), "ü": np.ones(5, np.float16)}
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors.numpy.save(tensors, {"one": "1", "zwei": "zwö", "three": "3"}))
    assert save(safetensors_file.load_file(path)) == path.read_bytes()


def test_the_safetensors_library_reads_what_is_written(lenet_like):
    read = safetensors.numpy.load(save(lenet_like))
    assert all(np.array_equal(read[name], array) for name, array in lenet_like.tensors.items())


def test_loaded_tensors_cannot_be_changed(dense_file):
    array = safetensors_file.load_file(dense_file).tensors["fc1.weight"]
    assert not array.flags.writeable


@pytest.mark.parametrize(
    "content",
    [b"", b"short", b"\xff" * 40, (10).to_bytes(8, "little") + b"not json  ", (2).to_bytes(8, "little") + b"{}x"],
)
def test_a_broken_file_is_refused(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        safetensors_file.load_file(path)


def test_tensors_that_overlap_are_refused(tmp_path):
    entry = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
    with pytest.raises(CheckpointError):
        safetensors_file.load_file(write(tmp_path / "x", {"a": entry, "b": entry}, bytes(4)))


def test_a_dtype_that_numpy_lacks_is_refused_by_name(tmp_path):
    path = write(tmp_path / "x", {"t": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}, b"\x12")
    with pytest.raises(CheckpointError, match="tensor 't' has dtype F4"):
        safetensors_file.load_file(path)


ENTRY = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'


def with_field(field: str) -> str:
    return '{"w":' + ENTRY.replace("{", '{"x":' + field + ",") + "}"


SPELLINGS = {
    "no padding": '{"w":%s,"b":%s}',
    "much padding": '{"w":%s,"b":%s}' + " " * 100,
    "white space": '{ "w" :\n %s,\t"b": %s }',
    "another order of tensors": '{"b":%s,"w":%s}',
    "metadata last": '{"w":%s,"b":%s,"__metadata__":{"z":"1","a":"ü\\u00fc"}}',
    "empty metadata": '{"__metadata__":{},"w":%s,"b":%s}',
    "no metadata": '{"__metadata__":null,"w":%s,"b":%s}',
    "metadata of our name": '{"__metadata__":{"dcomp.header":"{}"},"w":%s,"b":%s}',
    "lists": '{"w":["F32",[2],[0,8]],"b":["F32",[2],[8,16]]}',
    "other fields": '{"w":{"more":1,"data_offsets":[0,8],"shape":[2],"dtype":"F32"},"b":%s}',
}


def spelled(spelling: str) -> bytes:
    first, second = ENTRY, ENTRY.replace("[0,8]", "[8,16]")
    entries = {0: (), 1: (second,), 2: (first, second)}[spelling.count("%s")]
    entries = entries[::-1] if spelling.startswith('{"b"') else entries
    text = (spelling % entries).encode()
    return len(text).to_bytes(8, "little") + text + bytes(range(16))


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_the_header_of_another_tool_keeps_every_byte(dcomp, tmp_path, spelling):
    path = tmp_path / "x.safetensors"
    path.write_bytes(spelled(spelling))
    assert save(safetensors_file.load_file(path)) == path.read_bytes()
    assert dcomp("encode", path)[0] == 0
    assert dcomp("verify", tmp_path / "x.dcz", "--against", path)[0] == 0
    assert dcomp("decode", tmp_path / "x.dcz", "-o", tmp_path / "y.safetensors")[0] == 0
    assert (tmp_path / "y.safetensors").read_bytes() == path.read_bytes()


def test_a_changed_checkpoint_has_a_new_header(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(spelled(SPELLINGS["metadata last"]))
    loaded = safetensors_file.load_file(path)
    for changed in (
        loaded.replaced({}, {"a": "b"}),
        loaded.replaced({"w": np.ones(3)}),
        Checkpoint({"b": np.ones(2)}, loaded.metadata),
    ):
        (tmp_path / "y.safetensors").write_bytes(save(changed))
        again = safetensors_file.load_file(tmp_path / "y.safetensors")
        assert {name: array.tolist() for name, array in again.tensors.items()} == {
            name: array.tolist() for name, array in changed.tensors.items()
        }
        assert "dcomp.header" not in again.metadata


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"w":1}', '{"w":[]}', '{"w":{}}', '{"__metadata__":3}', "[" * 100_000]
)
def test_a_hostile_header_is_not_written(text):
    checkpoint = Checkpoint({"w": np.ones(2, np.float32)}, {"dcomp.header": text})
    assert save(checkpoint) == save(Checkpoint(checkpoint.tensors))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ('{"w":' + ENTRY + ',"w":' + ENTRY + "}", "its header has the key 'w' twice"),
        ('{"__metadata__":{"a":"b","a":"c"},"w":' + ENTRY + "}", "its header has the key 'a' twice"),
        (with_field("[" * 2000 + "]" * 2000), "recursion limit|nested too deeply"),
        (with_field("1" * 5000), "out of range|integer string"),
        ('{"w":' + ENTRY.replace("[2]", "[18446744073709551616]") + "}", "invalid type"),
        ('{"\\ud800":' + ENTRY + "}", "hex escape|surrogate"),
    ],
    ids=["a name twice", "metadata twice", "a deep nest", "a long integer", "a large integer", "a surrogate"],
)
def test_an_ambiguous_header_is_one_error(tmp_path, header, words):
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(8))
    with pytest.raises(CheckpointError, match=f"not a readable safetensors file: .*({words})"):
        safetensors_file.load_file(path)


def test_a_file_truncated_while_it_is_read_is_one_error(dense_file):
    loaded = safetensors_file.load_file(dense_file)
    dense_file.write_bytes(dense_file.read_bytes())  # the same file, so that it is this one that is cut
    with dense_file.open("r+b") as file:
        file.truncate(100_000)
    with pytest.raises(CheckpointError, match=r"ends at byte 100,000: it was cut while it was read"):
        dict(loaded.tensors.items())


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_an_impossible_path_is_one_error(tmp_path, name):
    for load in (load_checkpoint, load_container, Container.open):
        with pytest.raises((CheckpointError, ContainerError), match="cannot read"):
            load(tmp_path / name)


def test_names_that_no_file_can_hold_are_refused():
    for checkpoint in (Checkpoint({"a\ud800": np.ones(1)}), Checkpoint({"a": np.ones(1)}, {"k": "\ud800"})):
        with pytest.raises(CheckpointError, match="that UTF-8 cannot encode"):
            save(checkpoint)


def test_unchanged_tensors_stay_lazy(dense_file):
    changed = safetensors_file.load_file(dense_file).replaced({"fc1.bias": np.zeros(300)}, {"a": "b"})
    assert changed.nbytes == safetensors_file.load_file(dense_file).nbytes + 300 * 4
    assert changed.tensors["fc1.bias"].sum() == 0
    os.truncate(dense_file, 1000)
    with pytest.raises(CheckpointError, match="was cut"):
        changed.tensors["fc2.weight"]
