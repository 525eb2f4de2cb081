import io
import re
from zlib import crc32

import numpy as np
import pytest

import dcomp
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.checkpoints.tensors import Spec
from dcomp.coding.level import LEVELS
from dcomp.container import layout, writer
from dcomp.container.layout import Entry
from dcomp.container.reader import Container
from dcomp.errors import ContainerError, LimitError


def opened(tensors, level="default"):
    buffer = io.BytesIO()
    writer.write(Checkpoint(tensors, {}), buffer, LEVELS[level])
    return Container(buffer.getvalue())


@pytest.fixture
def some(rng):
    """Weights in rows, in classes, columns first, all kept, without any, and two that are tied."""
    pruned = np.where(rng.random((30, 40)) < 0.2, rng.choice([-1.0, 2.0], (30, 40)), 0).astype(np.float32)
    density = np.outer(rng.choice([0.05, 0.9], 60), rng.choice([0.2, 1], 80))
    classes = np.where(rng.random((60, 80)) < density, rng.choice([-1, 1], (60, 80)), 0).astype(np.float32)
    runs = np.repeat(rng.random((20, 200)) < 0.2, 10, axis=0)
    columns = np.where(runs, rng.choice([-1, 1, 2], runs.shape), 0).astype(np.float32)
    free = rng.normal(size=(7, 3, 2, 2)).astype(np.float32)
    return {
        "pruned": pruned,
        "classes": classes,
        "columns": columns,
        "free": free,
        "none": np.zeros((3, 4), np.float32),
        "tied": pruned.copy(),
        "reshaped": pruned.reshape(40, 30),
        "vector": pruned.reshape(-1)[:50].copy(),
    }


@pytest.mark.parametrize("level", LEVELS)
def test_compressed_rows_are_those_of_the_tensor(some, level):
    container = opened(some, level)
    for name, array in some.items():
        starts, columns, values = container.csr(name)
        matrix = array.reshape(len(array), -1) if array.ndim > 1 else array.reshape(1, -1)
        assert np.array_equal(np.diff(starts), np.count_nonzero(matrix, axis=1))
        assert np.array_equal(columns, np.nonzero(matrix)[1])
        assert np.array_equal(values, matrix[matrix != 0])


def test_the_tensors_that_are_named_are_decoded_in_that_order(some):
    container = opened(some)
    decoded = container.decode(["tied", "free", "pruned"])
    assert list(decoded) == ["tied", "free", "pruned"]
    assert all(np.array_equal(array, some[name]) for name, array in decoded.items())
    assert container.decode([]) == {}
    assert container.tensors(["free"]).specs.keys() == {"free"}


def test_a_tied_tensor_has_the_record_of_the_first(some):
    container = opened(some)
    assert bytes(container.record("reshaped")) == bytes(container.record("pruned")) == container.encoded("tied").record
    sizes = [entry.size for entry in container.directory.entries]
    assert sum(sizes) + container.directory.nbytes == container.nbytes


@pytest.mark.parametrize("read", [Container.decode, lambda container, **limit: container.csr("w", **limit)])
def test_the_memory_that_an_error_names_is_just_enough(rng, read):
    weights = np.where(rng.random((50, 60)) < 0.1, rng.normal(size=(50, 60)), 0)
    container = opened({"w": weights})
    needed = [0]
    while True:
        try:
            read(container, max_memory=needed[-1])
            break
        except LimitError as error:
            needed.append(int(re.search("about ([0-9,]+) bytes", str(error))[1].replace(",", "")))
    assert needed == sorted(set(needed))
    with pytest.raises(LimitError):
        read(container, max_memory=needed[-1] - 1)


def test_where_no_limit_is_given_it_is_eight_gibibytes():
    record, spec = b"\x01\x00", Spec(np.dtype(np.int8), ((8 << 30) + 1,))
    container = Container(layout.write_header({}, [Entry("w", spec, len(record), crc32(record))]) + record)
    for read in (container.decode, lambda: container.checkpoint().tensors["w"]):
        with pytest.raises(LimitError, match=r"more than the limit of 8,589,934,592; max_memory"):
            read()


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(ContainerError, match=r"cannot read .*absent\.dcz: No such file"):
        Container.open(tmp_path / "absent.dcz")
    for name, data, message in (("empty.dcz", b"", "cannot read"), ("other.dcz", b"junk", "not a dcz container")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ContainerError, match=rf"{name}.*{message}|{message}.*{name}"):
            Container.open(tmp_path / name)


def test_a_mapped_file_is_read_as_often_as_asked(tmp_path, some):
    path = tmp_path / "some.dcz"
    dcomp.save_file(some, path)
    container = Container.open(path)
    for _ in range(2):
        for names in (["columns", "pruned"], ["free"], None):
            assert all(np.array_equal(array, some[name]) for name, array in container.decode(names).items())
