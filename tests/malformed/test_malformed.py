"""Containers that break the format, each with its error. Checksums are mended, so that parsers are reached."""

import tracemalloc
from zlib import crc32

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

import dcomp
from dcomp.checkpoints.dtypes import NAME_OF
from dcomp.coding.wire import string, varint
from dcomp.container.layout import DTYPE_NUMBERS
from dcomp.container.reader import Container
from dcomp.errors import ChecksumError, ContainerError

WEIGHTS = np.where(np.arange(3000) % 7 == 0, np.float32(1.5), np.float32(0))
UNDAMAGED = dcomp.save({"w": WEIGHTS, "b": np.linspace(0, 1, 50, dtype=np.float32)}, {"key": "value"})

RAW_RECORD = b"\x00abcd"


def header(directory: bytes, *, flags: int = 0, version: int = 2, magic: bytes = b"\x89DCZ") -> bytes:
    start = magic + bytes([version, flags]) + varint(len(directory)) + directory
    return start + crc32(start).to_bytes(4, "little")


def entry(name="w", dtype=11, shape=(1,), record=RAW_RECORD, size=None) -> bytes:
    dimensions = b"".join(map(varint, shape))
    size = len(record) if size is None else size
    fields = string(name) + bytes([dtype, len(shape)]) + dimensions + varint(size)
    return fields + crc32(record).to_bytes(4, "little")


def tied(name, to, shape=(1,)) -> bytes:
    return string(name) + bytes([11, len(shape)]) + b"".join(map(varint, shape)) + varint(0) + varint(to)


def container(*entries: bytes, metadata: bytes = b"\x00", records: bytes = RAW_RECORD, count=None) -> bytes:
    count = len(entries) if count is None else count
    return header(metadata + varint(count) + b"".join(entries)) + records


def error_of(data: bytes) -> ContainerError:
    with pytest.raises(ContainerError) as caught:
        Container(data).decode()
    return caught.value


def test_the_builders_of_these_tests_make_a_valid_container():
    assert dcomp.load(container(entry()))["w"].tobytes() == b"abcd"


PAIR = string("k") + string("v")

CHAIN = b"\x04\x02ab\x20\x02" + bytes.fromhex("e0ff07c0") + b"\x02\0"
"""A record of two values whose codes are a chain of two codes, both of a letter that takes no bits."""

CASES = {
    "empty": (b"", "not a dcz container"),
    "another magic": (b"\x89PNG\r\n", "not a dcz container"),
    "magic alone": (b"\x89DCZ", "the header is cut short"),
    "a later version": (header(b"\x00\x00", version=3), "the container has version 3"),
    "reserved header flags": (header(b"\x00\x00", flags=2), "reserved bits are set in the header's flags 0x02"),
    "a directory beyond the file": (b"\x89DCZ\x02\x00\x70", "the header is cut short"),
    "a directory beyond its limit": (b"\x89DCZ\x02\x00" + varint(1 << 40), "directory size is 1099511627776"),
    "a directory that is no frame": (header(b"junk", flags=1), "the directory is no Zstandard frame"),
    "a directory frame without its size": (
        header(zstandard.ZstdCompressor(write_content_size=False).compress(b"\x00\x00"), flags=1),
        "without a content size",
    ),
    "bytes after the directory's last entry": (header(b"\x00\x00\x00"), "the directory has 1 bytes too many"),
    "more tensors than entries": (container(entry(), count=2), "the directory is cut short"),
    "more tensors than bytes": (container(count=100, records=b""), "tensor count is 100, more than 1"),
    "an empty tensor that numpy cannot shape": (container(entry(shape=(1 << 40, 1 << 40, 0))), "has the shape"),
    "fillers beyond the tensor": (
        container(entry(record=b"\x01\x01\x08\x01"), records=b"\x01\x01\x08\x01"),
        "tensor 'w': fillers is 1, more than 0",
    ),
    "more metadata than bytes": (container(metadata=b"\x7f"), "metadata count is 127"),
    "more metadata than the limit": (
        container(metadata=varint(65537) + b"".join(string(f"{i:x}") + b"\0" for i in range(65537)), records=b""),
        "metadata count is 65537, more than 65536",
    ),
    "a chain of too few bits": (
        container(entry(dtype=1, shape=(33,), record=CHAIN), records=CHAIN),
        "tensor 'w': 33 letters in 2 bits",
    ),
    "metadata that is not UTF-8": (container(entry(), metadata=b"\x01\x01\xff\x00"), "a metadata key is not UTF-8"),
    "a metadata key twice": (container(entry(), metadata=b"\x02" + PAIR + PAIR), "metadata key 'k' occurs twice"),
    "a name twice": (container(entry(), entry(), records=RAW_RECORD * 2), "tensor 'w' occurs twice"),
    "an unknown dtype": (container(entry(dtype=19)), "unknown dtype number 19"),
    "too many dimensions": (container(entry(shape=(1,) * 65)), "tensor 'w' has 65 dimensions"),
    "a dimension beyond the limit": (container(entry(shape=(1 << 41,))), "a dimension of 'w' is"),
    "elements beyond the limit": (
        container(entry(shape=(1 << 30, 1 << 30))),
        "tensor 'w' has the shape (1073741824, 1073741824), more than",
    ),
    "a record beyond the file": (container(entry(size=6)), "should have 29 bytes and has 28: it is cut short"),
    "bytes after the last record": (
        container(entry(), records=RAW_RECORD + b"x"),
        "should have 28 bytes and has 29: something was added to it",
    ),
    "another record": (container(entry(), records=b"\x00abcX"), "tensor 'w': its checksum does not match"),
    "tied to itself": (container(entry(), tied("v", 1)), "tensor 'v' is tied to entry 1, which is none before it"),
    "tied to a tied one": (container(entry(), tied("v", 0), tied("u", 1)), "tensor 'u' is tied to entry 1, which is"),
    "tied to one of another size": (container(entry(), tied("v", 0, shape=(2,))), "which has another number of bytes"),
    "tied though it is the first": (container(tied("w", 0)), "tensor 'w' is tied to entry 0, which is none before it"),
    "a record that breaks the format": (
        container(entry(record=b"\x80abcd"), records=b"\x80abcd"),
        "tensor 'w': reserved bits are set in its flags 0x80",
    ),
    "a form of a later version": (
        container(entry(record=b"\x40\x04abcd"), records=b"\x40\x04abcd"),
        "tensor 'w': values of form 4, a form of a later version of dcomp; a newer dcomp reads it",
    ),
    "a form of today where later ones stand": (
        container(entry(record=b"\x40\x00abcd"), records=b"\x40\x00abcd"),
        "tensor 'w': reserved bits are set in its flags 0x40",
    ),
    "too few values": (container(entry(shape=(2,))), "tensor 'w' is cut short: 8 bytes expected, 4 left"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_break_of_the_format_has_its_error(case):
    data, message = CASES[case]
    assert message in str(error_of(data))


@pytest.mark.parametrize("length", range(0, len(UNDAMAGED), 7))
def test_a_container_cut_short_is_refused(length):
    error_of(UNDAMAGED[:length])


@given(st.integers(0, 8 * len(UNDAMAGED) - 1))
def test_a_flipped_bit_is_found_by_a_checksum(bit):
    data = bytearray(UNDAMAGED)
    data[bit // 8] ^= 1 << bit % 8
    error_of(bytes(data))


def test_damage_in_a_record_names_the_tensor():
    with pytest.raises(ChecksumError, match="tensor 'b': its checksum does not match, the file is damaged"):
        Container(UNDAMAGED[:-1] + bytes([UNDAMAGED[-1] ^ 1])).decode()


RNG = np.random.default_rng(0)
SEEDS = {  # one for each form of values, with and without positions, one block and many
    "one value": WEIGHTS,
    "shared": RNG.integers(1, 5, 3000).astype(np.float32),
    "many blocks": RNG.integers(0, 3, 9000).astype(np.float32),
    "planes": RNG.normal(size=500).astype(np.float32),
    "positions and planes": np.where(RNG.random(3000) < 0.1, RNG.normal(size=3000), 0).astype(np.float32),
    "a codebook in planes": RNG.choice(RNG.normal(size=200), 3000).astype(np.float32),
    "zstd": np.frombuffer(bytes(RNG.integers(1, 256, 500, np.uint8)) * 2, np.uint8),
    "long gaps": np.where(np.arange(3000) % 900 == 899, np.float64(2), np.float64(0)),
    "raw": RNG.integers(1, 2**63, 40),
}


@pytest.mark.parametrize("seed", SEEDS)
@given(data=st.data())
def test_a_damaged_record_raises_container_errors_only(seed, data):
    array = SEEDS[seed]
    undamaged = dcomp.save({"w": array})
    (source,) = Container(undamaged).directory.entries
    record = bytearray(undamaged[source.offset :])
    for _ in range(data.draw(st.integers(1, 4))):
        record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    dtype = DTYPE_NUMBERS[NAME_OF[array.dtype]]
    forged = container(entry(dtype=dtype, shape=array.shape, record=bytes(record)), records=bytes(record))
    try:
        decoded = Container(forged).decode(max_memory=1 << 24)["w"]
    except ContainerError:
        return
    assert decoded.shape == array.shape


@pytest.mark.parametrize(
    ("record", "count"),
    [
        (b"\x05" + varint(1 << 24) + b"\x01\x00\x00\xe0\xf8\x01\x07\x00\xe0", 1 << 24),
        (b"\x05\x01\x01" + varint((1 << 24) - 1) + b"\x00\xff\x00\x01\x07\x00\xe0", 1 << 24),
    ],
    ids=["every element kept by a code of no bits", "a filler for every element"],
)
def test_a_tiny_record_cannot_take_much_more_memory_than_its_limit(record, count):
    forged = container(entry(dtype=1, shape=(count,), record=record), records=record)
    tracemalloc.start()
    with pytest.raises(ContainerError):
        Container(forged).decode(max_memory=count)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < count
