"""Where the bytes of a file go adds up to its size, whatever it holds and whoever wrote it."""

import io
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dcomp
from dcomp.checkpoints import dtypes
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.checkpoints.tensors import Spec
from dcomp.coding import bits, encoder, prefix_code
from dcomp.coding.level import LEVELS
from dcomp.coding.shared import Shared
from dcomp.coding.wire import varint
from dcomp.container import layout, writer
from dcomp.container.layout import Entry
from dcomp.container.reader import Container
from dcomp.reporting.sizes import measure_container
from dcomp.reporting.storage import Storage


@st.composite
def tensors(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = dtypes.BY_NAME[draw(st.sampled_from(list(dtypes.BY_NAME)))]
    shape = draw(st.sampled_from([(0,), (), (1,), (700,), (30, 100), (4, 0, 3), (6, 10, 5, 5)]))
    size = int(np.prod(shape))
    palette = rng.integers(0, 256, (draw(st.sampled_from([1, 2, 20, 4000])), dtype.itemsize), np.uint8)
    elements = palette[rng.integers(0, len(palette), size)]
    elements[rng.random(size) < draw(st.sampled_from([0, 0.05, 0.5, 0.95, 1]))] = 0
    return np.ascontiguousarray(elements).reshape(-1).view(dtype).reshape(shape)


def check(container):
    report = measure_container(container)
    for row, entry in zip(report.rows, container.directory.entries, strict=True):
        assert row.storage.total == row.bytes == entry.size
        assert min(vars(row.storage).values()) >= 0
    assert report.storage.total == report.file_bytes == container.nbytes
    assert sum(row.bytes for row in report.rows) + report.overhead == container.nbytes
    return report


@given(
    st.dictionaries(st.text(max_size=5), tensors(), max_size=5),
    st.dictionaries(st.text(), st.text(), max_size=2),
    st.sampled_from(list(LEVELS.values())),
)
def test_the_split_of_any_checkpoint_adds_up_to_the_byte(checkpoint, metadata, level):
    file = io.BytesIO()
    writer.write(Checkpoint(checkpoint, metadata), file, level)
    check(Container(file.getvalue()))


def with_record(record, array):
    spec = Spec(array.dtype, array.shape)
    entry = Entry("w", spec, len(record), crc32(record))
    return Container(layout.write_header({}, [entry]) + record)


@pytest.mark.parametrize(("shortest", "width"), [(0, 12), (0, 32)])
def test_the_split_of_a_container_by_another_encoder_adds_up_too(rng, shortest, width):
    array = rng.choice([1, 2, 3, 5, 8], 60_000).astype(np.float32)
    values = encoder.encode_tensor(array, LEVELS["fast"]).values
    assert isinstance(values, Shared) and values.codes.block_bits.size > 2
    codes = values.codes
    index = bits.pack(codes.block_bits[:-1] - shortest, np.full(codes.block_bits.size - 1, 16 if width < 16 else width))
    width = 16 if width < 16 else width
    head = codes.to_bytes()[:1] + prefix_code.write_lengths(codes.lengths) + varint(int(codes.block_bits.sum()))
    stream = head + varint(shortest) + bytes([width]) + index + bytes(codes.payload)
    codebook = b"".join(bytes(part) for part in values.codebook.parts())
    container = with_record(b"\x04" + varint(values.size) + codebook + stream, array)
    assert container.decode()["w"].tobytes() == array.tobytes()
    assert check(container).rows[0].bytes != 1 + values.nbytes


def test_each_part_has_its_own_bytes(rng):
    kept = rng.random((100, 90)) < 0.1
    checkpoint = {
        "pruned.shared": np.where(kept, rng.choice([-1, 1, 2, 4], kept.shape), 0).astype(np.float32),
        "pruned": np.where(kept, rng.normal(size=kept.shape), 0).astype(np.float32),
        "shared": rng.choice([1, 2, 3, 9], 9000).astype(np.float32),
        "neither": rng.normal(size=500).astype(np.float32),
    }
    container = Container(dcomp.save(checkpoint))
    rows = {row.name: row.storage for row in check(container).rows}
    records = {name: container.encoded(name) for name in checkpoint}
    shared = records["pruned.shared"]
    assert rows["pruned.shared"].codebooks == 1 + 4 * 4
    assert rows["pruned.shared"].positions + rows["pruned.shared"].values > 0.9 * shared.nbytes
    lengths = [prefix_code.write_lengths(stream.lengths) for stream in shared.streams if not stream.implicit_code]
    assert rows["pruned.shared"].code_tables == sum(map(len, lengths))
    assert (rows["pruned"].codebooks, rows["pruned"].rest) == (0, 0)
    assert rows["pruned"].values > 3 * kept.sum()
    assert (rows["shared"].positions, rows["shared"].codebooks) == (0, 17)
    neither, tables = rows["neither"], rows["neither"].code_tables
    assert neither == Storage(code_tables=tables, rest=records["neither"].nbytes - 1 - tables, header=1)


def test_the_header_holds_all_that_stands_before_the_records():
    container = Container(dcomp.save({"w": np.ones(3, np.float32)}, {"key": "value" * 100}))
    report = check(container)
    assert report.storage.header == container.directory.nbytes + 1


ROOT = Path(__file__).parents[2]
CONTAINERS = sorted([*(ROOT / "tests" / "golden").glob("*.dcz"), *(ROOT / "sample_configs" / "results").glob("*.dcz")])


@pytest.mark.parametrize("path", CONTAINERS, ids=lambda path: path.name)
def test_the_split_of_a_file_adds_up(path):
    assert check(Container.open(path)).file_bytes == path.stat().st_size


def test_the_bytes_of_density_classes_are_positions(rng):
    density = np.outer(rng.choice([0.02, 0.5], 200), rng.choice([0.1, 1], 300))
    array = np.where(rng.random(density.shape) < density, rng.choice([-1, 1, 2], density.shape), 0).astype(np.float32)
    container = Container(dcomp.save({"w": array}))
    encoded = container.encoded("w")
    assert encoded.index.classes is not None
    (row,) = check(container).rows
    assert row.index_bytes == len(encoded.index.to_bytes())
    tables = [stream.table_nbytes for stream in encoded.index.streams]
    assert row.storage.positions == row.index_bytes - sum(tables)
    assert row.fillers == sum(cell.fillers for cell in encoded.index.cells)


def test_a_record_has_the_same_storage_before_and_after_writing(rng):
    sparse = np.where(rng.random((80, 90)) < 0.1, rng.choice([-1, 1, 2], (80, 90)), 0).astype(np.float32)
    few = np.zeros(500, np.float32)
    few[::100] = 2.5
    for array in (sparse, few, rng.choice([1, 2, 3], 4000).astype(np.int16)):
        written = encoder.encode_tensor(array)
        read = Container(dcomp.save({"w": array})).encoded("w")
        assert Storage.of(written) == Storage.of(read)
        assert Storage.of(written).code_tables < 30


def test_elements_of_a_vector_are_the_rest(rng):
    free = rng.normal(size=4000).astype(np.float32)
    matrix, vector = (Storage.of(encoder.encode_tensor(array)) for array in (free.reshape(40, 100), free))
    assert (matrix.rest, vector.values) == (0, 0)
    assert matrix.values == vector.rest > 10_000
    assert matrix.code_tables == vector.code_tables > 0
