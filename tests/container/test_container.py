import io
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dcomp
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.container import writer
from dcomp.container.reader import Container
from dcomp.errors import CheckpointError, ContainerError, LimitError


def written(checkpoint: Checkpoint) -> bytes:
    buffer = io.BytesIO()
    writer.write(checkpoint, buffer)
    return buffer.getvalue()


@given(
    st.dictionaries(st.text(), st.lists(st.sampled_from([0.0, 0.0, 0.0, 1.5, -2.0]), max_size=50), max_size=5),
    st.dictionaries(st.text(), st.text(), max_size=3),
)
def test_names_order_and_metadata_come_back(tensors, metadata):
    checkpoint = Checkpoint({name: np.array(values, np.float32) for name, values in tensors.items()}, metadata)
    decoded = Container(written(checkpoint)).checkpoint()
    assert list(decoded.tensors) == list(tensors)
    assert list(decoded.metadata.items()) == list(metadata.items())
    assert all(decoded.tensors[name].tolist() == values for name, values in tensors.items())


def test_encoding_twice_gives_the_same_bytes(lenet_like):
    assert written(lenet_like) == written(lenet_like)


def test_the_records_and_the_header_make_up_the_file(lenet_like):
    data = written(lenet_like)
    directory = Container(data).directory
    assert directory.nbytes + sum(entry.size for entry in directory.entries) == len(data)


def test_one_tensor_is_read_while_the_others_are_damaged(lenet_like):
    data = bytearray(written(lenet_like))
    first = Container(data).directory.entries[0]
    data[first.offset + 10] ^= 1
    container = Container(bytes(data))
    assert np.array_equal(container.decode(["fc3.weight"])["fc3.weight"], lenet_like.tensors["fc3.weight"])


def test_memory_is_limited_before_it_is_taken():
    data = dcomp.save({"huge": np.broadcast_to(np.zeros(1, np.float32), (1 << 20,))})
    assert len(data) < 60
    with pytest.raises(LimitError, match="takes about 4,194,304 bytes of memory, more than the limit of 1,000"):
        Container(data).decode(max_memory=1000)


def test_a_directory_counts_in_the_memory_that_a_container_may_take():
    data = dcomp.save({"w": np.zeros(3, np.float32)}, {"notes": "a" * (1 << 20)})
    assert len(data) < 1000
    with pytest.raises(LimitError, match=r"reading the container's directory takes more .* \(--max-memory\) raises it"):
        Container(data, max_memory=4 << 20)
    assert Container(data, max_memory=16 << 20).metadata["notes"] == "a" * (1 << 20)


def test_too_many_metadata_are_not_written():
    with pytest.raises(CheckpointError, match="65,537 metadata entries are more than the 65,536 of a container"):
        dcomp.save({}, {f"{i}": "" for i in range(65_537)})
    with pytest.raises(CheckpointError, match=r"names and metadata take .* bytes, more than the 67,108,864"):
        dcomp.save({}, {"notes": "a" * (1 << 26)})
    assert len(Container(dcomp.save({}, {f"{i}": "" for i in range(65_536)})).metadata) == 65_536


def test_arrays_that_are_kept_count_towards_the_limit():
    tensors = {f"w{i}": np.arange(100_000, dtype=np.float32) + i for i in range(400)}
    container = Container(dcomp.save({"w": tensors["w0"]}))
    (one,) = container.decode(max_memory=3_000_000).values()
    assert one.nbytes == 400_000
    many = Container(dcomp.save(tensors))
    with pytest.raises(LimitError):
        many.decode(max_memory=161_000_000)
    assert sum(1 for _ in many.decode_each(max_memory=10_000_000)) == 400


def test_each_tensor_is_decoded_or_has_its_error(rng):
    tensors = {name: rng.normal(size=300).astype(np.float32) for name in "abc"}
    data = bytearray(dcomp.save(tensors))
    data[Container(bytes(data)).entries["b"].offset + 5] ^= 1
    decoded = dict(Container(bytes(data)).decode_each())
    assert [name for name, array in decoded.items() if isinstance(array, ContainerError)] == ["b"]
    assert np.array_equal(decoded["c"], tensors["c"])


def test_ten_thousand_tensors_come_back():
    tensors = {f"layer.{i}.weight": np.full(3, i, np.float32) for i in range(10_000)}
    decoded = dcomp.load(dcomp.save(tensors))
    assert list(decoded) == list(tensors)
    assert decoded["layer.4321.weight"].tolist() == [4321] * 3


def test_tied_tensors_are_stored_once_and_come_back_each(rng):
    weights = rng.normal(size=(100, 50)).astype(np.float32)
    other = weights.copy()
    other[50, 20] += 1
    tensors = {"a": weights, "other": other, "b": weights.copy(), "bytes": weights.view(np.uint8)}
    data = dcomp.save(tensors)
    assert len(data) < 2.1 * weights.nbytes
    container = Container(data)
    assert [entry.tied_to for entry in container.directory.entries] == [None, None, "a", "a"]
    for name, array in [*container.decode().items(), *container.tensors().stream()]:
        assert (array.dtype, array.shape) == (tensors[name].dtype, tensors[name].shape)
        assert array.tobytes() == tensors[name].tobytes()


@pytest.mark.parametrize("changed", "abc")
def test_a_tied_tensor_can_be_changed_alone(rng, changed):
    weights = rng.normal(size=100).astype(np.float32)
    decoded = dcomp.load(dcomp.save(dict.fromkeys("abc", weights)))
    decoded[changed][:] = 0
    assert [name for name in "abc" if np.array_equal(decoded[name], weights)] == [n for n in "abc" if n != changed]


def test_a_tensor_may_be_tied_to_one_without_a_name():
    tensors = {"": np.ones(3, np.float32), "w": np.ones(3, np.float32)}
    assert [array.tolist() for array in dcomp.load(dcomp.save(tensors)).values()] == [[1, 1, 1]] * 2


def test_records_that_wait_in_a_file_are_written_alike(rng, monkeypatch):
    tensors = {f"w{i}": rng.normal(size=500).astype(np.float32) for i in range(4)}
    in_memory = dcomp.save(tensors)
    monkeypatch.setattr(writer, "KEPT_IN_MEMORY", 3000)
    assert dcomp.save(tensors) == in_memory


def test_tied_tensors_count_in_the_memory_that_decoding_takes():
    tensors = {f"w{i}": np.ones(100_000, np.float32) for i in range(20)}
    container = Container(dcomp.save(tensors))
    assert container.nbytes < 2000
    with pytest.raises(LimitError):
        container.decode(max_memory=10 * 400_000)


def test_a_container_that_is_cut_while_it_is_read_is_one_error(tmp_path, lenet_like):
    path = tmp_path / "x.dcz"
    dcomp.save_file(lenet_like.tensors, path)
    container = Container.open(path)
    os.truncate(path, 100_000)
    with pytest.raises(ContainerError, match=r"x.dcz ends at byte 100,000: it was cut while it was read"):
        container.decode()
