"""dcomp and a decoder written from the format's document alone agree on every container, whole or damaged."""

import importlib.util
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dcomp
from dcomp.checkpoints import dtypes
from dcomp.coding import encoder
from dcomp.coding.level import LEVELS
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
        container = Container(data)
        ours = container.decode(max_memory=1 << 26)
    except ContainerError:
        with pytest.raises(reference.RejectedError):
            reference.decode(data)
        return
    tensors, metadata = reference.decode(data)
    assert list(tensors) == list(ours)
    assert list(metadata.items()) == list(container.metadata.items())
    for name, theirs in tensors.items():
        array = ours[name]
        assert (dtypes.NAME_OF[array.dtype], array.shape) == (theirs.dtype, theirs.shape)
        assert array.tobytes() == theirs.data


@pytest.mark.parametrize("path", sorted((TESTS / "golden").glob("*.dcz")), ids=lambda path: path.name)
def test_golden_files_decode_alike(path):
    agree(path.read_bytes())


@st.composite
def any_tensor(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = dtypes.BY_NAME[draw(st.sampled_from(list(dtypes.BY_NAME)))]
    size = draw(st.sampled_from([0, 1, 2, 30, 700, 4000]))
    palette = rng.integers(0, 256, (draw(st.sampled_from([1, 2, 20, 400])), dtype.itemsize), np.uint8)
    elements = palette[rng.integers(0, len(palette), size)]
    elements[rng.random(size) < draw(st.sampled_from([0, 0.05, 0.5, 0.95, 1]))] = 0
    array = np.ascontiguousarray(elements).reshape(-1).view(dtype)
    return array.reshape(draw(st.sampled_from([(-1,), (10, -1)]))) if size and size % 10 == 0 else array


@st.composite
def weights(draw):
    """What `structured` makes."""
    rows, columns = draw(st.sampled_from([(40, 120), (150, 30), (64, 64)]))
    dtype = draw(st.sampled_from([np.float32, np.int8]))
    matrix = structured(draw(st.integers(0, 2**32)), rows, columns, draw(st.sampled_from([0.05, 0.4, 1]))).astype(dtype)
    return np.ascontiguousarray(matrix.T) if draw(st.booleans()) else matrix


def structured(seed, rows, columns, most):
    """A matrix whose rows and columns differ in density, and whose neighbours along the rows resemble each other."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.integers(-2, 3, rows * columns)).reshape(rows, columns) % 37 + 1
    density = most * np.outer(rng.choice([0.1, 1, 1], rows), rng.choice([0.3, 1, 1], columns))
    return np.where(rng.random(walk.shape) < density, walk, 0).astype(np.float32)


@given(
    st.dictionaries(st.text(max_size=5), any_tensor(), max_size=3), st.dictionaries(st.text(), st.text(), max_size=2)
)
def test_random_containers_decode_alike(tensors, metadata):
    agree(dcomp.save(tensors, metadata))


@settings(max_examples=settings().max_examples // 2)  # the reference decoder is slow
@given(weights(), st.sampled_from(list(LEVELS.values())))
def test_structured_weights_decode_alike_at_every_level(matrix, level):
    encoded = encoder.encode_tensor(matrix, level)
    data = forged(encoded.record, matrix)
    agree(data)
    assert Container(data).decode()["w"].tobytes() == matrix.tobytes()


def test_structured_weights_take_every_model():
    """The strategy above is not in vain."""
    seen = set()
    for most in (0.05, 0.4, 0.95):
        matrix = structured(0, 80, 100, most)
        for array in (matrix, np.ascontiguousarray(matrix.T)):
            encoded = encoder.encode_tensor(array, LEVELS["max"])
            seen |= {stream.model.name for stream in encoder.encode_tensor(array, LEVELS["fast"]).streams}
            seen |= {stream.model.name for stream in encoded.streams}
            seen |= {"golomb" for stream in encoded.streams if stream.implicit_code}
            seen |= {"apart" for stream in encoded.streams if stream.apart}
            seen |= {"columns first"} if encoded.columns_first else set()
            seen |= {"classes"} if encoded.index and encoded.index.classes else set()
    assert seen == {"PLAIN", "PAIRS", "CHAINED", "golomb", "apart", "columns first", "classes"}


@given(st.one_of(any_tensor(), weights()), st.data())
def test_damaged_records_are_rejected_alike(array, data):
    undamaged = dcomp.save({"w": array})
    (source,) = Container(undamaged).directory.entries
    record = bytearray(undamaged[source.offset :])
    for _ in range(data.draw(st.integers(1, 3))):
        record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    agree(forged(bytes(record), array))


def forged(record, array):
    """A container of one tensor with that record, and right checksums."""
    number = bytes([DTYPE_NUMBERS[dtypes.NAME_OF[array.dtype]], array.ndim])
    entry = string("w") + number + b"".join(map(varint, array.shape)) + varint(len(record))
    directory = b"\x00\x01" + entry + crc32(record).to_bytes(4, "little")
    header = b"\x89DCZ\x02\x00" + varint(len(directory)) + directory
    return header + crc32(header).to_bytes(4, "little") + record
