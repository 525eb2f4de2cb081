import io
from dataclasses import replace

import numpy as np
import pytest

from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.container import layout, writer
from dcomp.container.reader import Container
from dcomp.errors import CheckpointError


def written(tensors, metadata=None, **how):
    buffer = io.BytesIO()
    writer.write(Checkpoint(tensors, metadata or {}), buffer, **how)
    return buffer.getvalue()


def test_the_writer_reports_the_dense_bytes_of_each_tensor(rng):
    sizes = []
    weights = rng.normal(size=50)
    written({"a": weights, "b": weights, "c": weights[:7]}, on_tensor=sizes.append)
    assert sizes == [400, 56]


def test_records_larger_than_a_piece_of_a_copy_are_written(rng):
    noise = rng.integers(0, 256, 2_500_000, np.uint8)
    assert np.array_equal(Container(written({"a": noise})).decode()["a"], noise)


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"\ud800": np.ones(2)}, {}, "is a name or metadata entry, but no string that UTF-8 can encode"),
        ({"a": np.ones(2)}, {"k": "\ud800"}, "no string that UTF-8 can encode"),
        ({"a": np.ones(2)}, {"\ud800": "v"}, "no string that UTF-8 can encode"),
        ({"a": np.ones(2)}, {"k": 5}, "5 is a name or metadata entry, but no string"),
        ({"a": np.ones(2, np.complex128)}, {}, "tensor 'a' has dtype complex128, which safetensors does not know"),
    ],
)
def test_an_invalid_checkpoint_writes_nothing(tensors, metadata, message):
    stream = io.BytesIO()
    with pytest.raises(CheckpointError, match=message):
        writer.write(Checkpoint(tensors, metadata), stream)
    assert not stream.getvalue()


def test_more_tensors_than_a_container_can_hold_are_refused(monkeypatch):
    monkeypatch.setattr(writer, "MAX_TENSORS", 3)
    tensors = {str(number): np.full(2, number) for number in range(4)}
    with pytest.raises(CheckpointError, match="4 tensors are more than the 3 that a container can hold"):
        written(tensors)
    tensors.pop("3")
    assert Container(written(tensors)).names == ["0", "1", "2"]


def test_a_shape_may_reach_its_limits_and_not_go_beyond():
    assert layout.shape_problem((1,) * 64) is None
    assert layout.shape_problem((1,) * 65) == "has 65 dimensions, more than 64"
    assert layout.shape_problem((1 << 20, 1 << 20)) is None
    assert layout.shape_problem((1 << 20, 0, 1 << 20)) is None
    for shape in ((1 << 20, 1 << 20, 2), ((1 << 40) + 1, 0)):
        assert "more than 1099511627776 elements" in layout.shape_problem(shape)


def test_a_directory_comes_back_from_the_header(rng):
    tensors = {f"w{i}": rng.normal(size=(2, 3 + i)) for i in range(3)} | {"scalar": np.float32(1) + np.zeros(())}
    tensors["tied"] = tensors["w1"].reshape(8)
    data = written(tensors, {"a": "b"})
    directory = Container(data).directory
    assert (directory.metadata, [entry.name for entry in directory.entries]) == ({"a": "b"}, list(tensors))
    assert [entry.spec.shape for entry in directory.entries] == [array.shape for array in tensors.values()]
    assert [entry.tied_to for entry in directory.entries] == [None, None, None, None, "w1"]
    ends = [entry.offset + entry.size for entry in directory.entries if entry.size]
    starts = [entry.offset for entry in directory.entries if entry.size]
    assert (starts, ends[-1]) == ([directory.nbytes, *ends[:-1]], len(data))
    assert layout.write_header({"a": "b"}, directory.entries) == data[: directory.nbytes]


def test_a_directory_is_compressed_where_that_is_smaller():
    entry = Container(written({"w": np.ones(3)})).directory.entries[0]
    alike = [replace(entry, name=f"a.long.name.of.layer.{i}.weight") for i in range(40)]
    assert len(layout.write_header({}, alike)) < 40 * 25
    short = layout.write_header({}, [entry])
    assert (short[5], layout.write_header({}, alike)[5]) == (0, 1)
    assert len(short) == 4 + 2 + 1 + 4 + 1 + 1 + 2 + 1 + 1 + 1 + 1 + 4


def test_without_workers_all_is_encoded_in_this_process(monkeypatch):
    monkeypatch.setattr(writer.parallel, "results", lambda *_: pytest.fail("another process was asked"))
    assert Container(written({"a": np.ones(3), "b": np.arange(9)})).names == ["a", "b"]
