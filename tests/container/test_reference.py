"""dcomp and a decoder written from the format's document alone agree on every container, whole or damaged."""

import importlib.util
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dcomp
from dcomp import dtypes
from dcomp.coding.wire import string, varint
from dcomp.container.layout import DTYPE_NUMBERS
from dcomp.container.reader import Container
from dcomp.errors import ContainerError

TESTS = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("reference_decoder", TESTS / "reference_decoder.py")
assert _spec and _spec.loader
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)


def agree(data: bytes) -> None:
    """Both decode the same, or both reject."""
    try:
        ours = Container(data).checkpoint(max_memory=1 << 26)
    except ContainerError:
        with pytest.raises(reference.RejectedError):
            reference.decode(data)
        return
    tensors, metadata = reference.decode(data)
    assert list(tensors) == list(ours.tensors)
    assert list(metadata.items()) == list(ours.metadata.items())
    for name, tensor in tensors.items():
        array = ours.tensors[name]
        assert (dtypes.NAME_OF[array.dtype], array.shape) == (tensor.dtype, tensor.shape)
        assert array.tobytes() == tensor.data


@pytest.mark.parametrize("path", sorted((TESTS / "golden").glob("*.dcz")), ids=lambda path: path.name)
def test_golden_files_decode_alike(path):
    agree(path.read_bytes())


@st.composite
def any_tensor(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = dtypes.BY_NAME[draw(st.sampled_from(list(dtypes.BY_NAME)))]
    size = draw(st.sampled_from([0, 1, 2, 30, 700]))
    palette = rng.integers(0, 256, (draw(st.sampled_from([1, 2, 20, 400])), dtype.itemsize), np.uint8)
    elements = palette[rng.integers(0, len(palette), size)]
    elements[rng.random(size) < draw(st.sampled_from([0, 0.05, 0.5, 0.95, 1]))] = 0
    return np.ascontiguousarray(elements).reshape(-1).view(dtype)


@settings(deadline=None, max_examples=150)
@given(
    st.dictionaries(st.text(max_size=5), any_tensor(), max_size=3), st.dictionaries(st.text(), st.text(), max_size=2)
)
def test_random_containers_decode_alike(tensors, metadata):
    agree(dcomp.save(tensors, metadata))


@settings(deadline=None, max_examples=400)
@given(any_tensor(), st.data())
def test_damaged_records_with_mended_checksums_are_judged_alike(array, data):
    whole = dcomp.save({"w": array})
    (source,) = Container(whole).directory.entries
    record = bytearray(whole[source.offset :])
    for _ in range(data.draw(st.integers(1, 3))):
        record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    number = bytes([DTYPE_NUMBERS[dtypes.NAME_OF[array.dtype]]])
    entry = string("w") + number + b"\x01" + varint(array.size) + varint(len(record))
    directory = b"\x00\x01" + entry + crc32(record).to_bytes(4, "little")
    header = b"\x89DCZ\x01\x00" + varint(len(directory)) + directory
    agree(header + crc32(header).to_bytes(4, "little") + bytes(record))
