import re
from zlib import crc32

import numpy as np
import pytest

import dcomp
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.checkpoints.tensors import Spec
from dcomp.coding import encoder
from dcomp.container import layout
from dcomp.container.layout import Entry
from dcomp.container.reader import Container
from dcomp.container.verification import verify
from dcomp.errors import ChecksumError, ContainerError, DifferenceError, LimitError
from dcomp.progress.observer import Observer


@pytest.fixture
def checkpoint(rng):
    tensors = {"a": rng.normal(size=(4, 5)).astype(np.float32), "b": np.array([0.0, np.nan]), "c": np.arange(6)}
    return Checkpoint(tensors, {"key": "value", "other": ""})


@pytest.fixture
def data(checkpoint):
    return dcomp.save(checkpoint.tensors, checkpoint.metadata)


def with_damage(data, *names):
    damaged = bytearray(data)
    for name in names:
        entry = Container(data).entries[name]
        damaged[entry.offset + entry.size - 1] ^= 1
    return bytes(damaged)


def with_tensor(checkpoint, name, array):
    return Checkpoint({**checkpoint.tensors, name: array}, checkpoint.metadata)


def test_a_whole_container_equal_to_its_checkpoint_passes(checkpoint, data):
    verify(Container(data))
    verify(Container(data), checkpoint)


def test_every_damaged_tensor_is_named(data):
    with pytest.raises(ChecksumError, match=r"tensor 'a': its checksum .*; tensor 'c': its checksum"):
        verify(Container(with_damage(data, "a", "c")))


def test_damage_goes_before_a_difference(checkpoint, data):
    with pytest.raises(ChecksumError, match="tensor 'c'"):
        verify(Container(with_damage(data, "c")), with_tensor(checkpoint, "a", -checkpoint.tensors["a"]))


DIFFERENCES = {
    "a negative zero": (lambda c: with_tensor(c, "b", np.array([-0.0, np.nan])), "'b' differs in 1 of 2 elements"),
    "another NaN": (lambda c: with_tensor(c, "b", np.array([0.0, -np.nan])), "'b' differs in 1 of 2 elements, .* (1,)"),
    "the first of two": (
        lambda c: with_tensor(with_tensor(c, "a", -c.tensors["a"]), "c", np.zeros(6, np.int64)),
        "'a' differs in 20 of 20 elements, the first at (0, 0)",
    ),
    "a shape": (
        lambda c: with_tensor(c, "c", np.arange(6).reshape(2, 3)),
        "'c' is int64 (6,) in the container and int64 (2, 3) in the checkpoint",
    ),
    "a dtype": (lambda c: with_tensor(c, "c", np.arange(6.0)), "'c' is int64 (6,) in the container and float64 (6,)"),
    "a tensor more": (lambda c: with_tensor(c, "d", np.zeros(1)), "'d' is in the checkpoint only"),
    "a tensor less": (
        lambda c: Checkpoint({name: c.tensors[name] for name in "ab"}, c.metadata),
        "'c' is in the container only",
    ),
    "the order": (
        lambda c: Checkpoint({n: c.tensors[n] for n in "cba"}, c.metadata),
        "every tensor is equal, but they are in another order",
    ),
    "elements before the order": (
        lambda c: with_tensor(Checkpoint({n: c.tensors[n] for n in "cba"}, c.metadata), "a", -c.tensors["a"]),
        "'a' differs in 20 of 20 elements",
    ),
    "the metadata": (lambda c: Checkpoint(c.tensors, {"key": "value"}), "the metadata differ, first in 'other'"),
    "the order of the metadata": (
        lambda c: Checkpoint(c.tensors, dict(reversed(c.metadata.items()))),
        "the metadata are in another order",
    ),
    "elements before metadata": (
        lambda c: Checkpoint({**c.tensors, "a": -c.tensors["a"]}, {}),
        "'a' differs in 20 of 20 elements",
    ),
}


@pytest.mark.parametrize(("change", "words"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_the_first_difference_is_named(checkpoint, data, change, words):
    with pytest.raises(DifferenceError, match=re.escape(words).replace(r"\.\*", ".*")):
        verify(Container(data), change(checkpoint))


def test_every_damaged_tensor_is_named_and_so_are_those_tied_to_it(checkpoint):
    data = dcomp.save({**checkpoint.tensors, "tied": checkpoint.tensors["a"]})
    with pytest.raises(ChecksumError) as caught:
        verify(Container(with_damage(data, "a", "c")))
    texts = str(caught.value).split("; ")
    assert [text.split("'")[1] for text in texts] == ["a", "c", "tied"]
    assert texts[2] == "tensor 'tied' is tied to 'a'"


def test_a_tensor_beyond_the_memory_limit_is_one_error(data):
    with pytest.raises(LimitError, match="--max-memory"):
        verify(Container(data), max_memory=10)


def test_progress_is_complete_despite_damage(checkpoint, data):
    events = []

    class Watcher(Observer):
        def started_bytes(self, total):
            events.append(-total)

        def finished_bytes(self, nbytes):
            events.append(nbytes)

        def finished(self):
            events.append("finished")

    with pytest.raises(ChecksumError):
        verify(Container(with_damage(data, "b")), None, Watcher())
    assert events[0] == -checkpoint.nbytes
    assert sum(events[:-1]) == 0
    assert events[-1] == "finished"


def test_an_error_names_the_tensor_with_broken_streams():
    array = np.arange(3000, dtype=np.float32) % 7
    record = bytearray(encoder.encode_tensor(array).record)
    record[-40] ^= 255
    entry = Entry("w", Spec(array.dtype, array.shape), len(record), crc32(record))
    with pytest.raises(ContainerError, match=r"^tensor 'w': "):
        verify(Container(layout.write_header({}, [entry]) + bytes(record)))
