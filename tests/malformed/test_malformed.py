"""Containers that break the format, each with its error. Checksums are mended, so that parsers are reached."""

from zlib import crc32

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

import dcomp
from dcomp.coding.wire import string, varint
from dcomp.container.reader import Container
from dcomp.errors import ChecksumError, ContainerError

WEIGHTS = np.where(np.arange(3000) % 7 == 0, np.float32(1.5), np.float32(0))
WHOLE = dcomp.save({"w": WEIGHTS, "b": np.linspace(0, 1, 50, dtype=np.float32)}, {"key": "value"})

RAW_RECORD = b"\x00abcd"


def header(directory: bytes, *, flags: int = 0, version: int = 1, magic: bytes = b"\x89DCZ") -> bytes:
    start = magic + bytes([version, flags]) + varint(len(directory)) + directory
    return start + crc32(start).to_bytes(4, "little")


def entry(name="w", dtype=11, shape=(1,), record=RAW_RECORD, size=None) -> bytes:
    dimensions = b"".join(map(varint, shape))
    size = len(record) if size is None else size
    fields = string(name) + bytes([dtype, len(shape)]) + dimensions + varint(size)
    return fields + crc32(record).to_bytes(4, "little")


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

CASES = {
    "empty": (b"", "not a dcz container"),
    "another magic": (b"\x89PNG\r\n", "not a dcz container"),
    "magic alone": (b"\x89DCZ", "the header is cut short"),
    "a later version": (header(b"\x00\x00", version=2), "the container has version 2"),
    "reserved header flags": (header(b"\x00\x00", flags=2), "reserved bits are set in the header's flags 0x02"),
    "a directory beyond the file": (b"\x89DCZ\x01\x00\x70", "the header is cut short"),
    "a directory beyond its limit": (b"\x89DCZ\x01\x00" + varint(1 << 40), "directory size is 1099511627776"),
    "a directory that is no frame": (header(b"junk", flags=1), "the directory is no Zstandard frame"),
    "a directory frame without its size": (
        header(zstandard.ZstdCompressor(write_content_size=False).compress(b"\x00\x00"), flags=1),
        "without a content size",
    ),
    "bytes after the directory's last entry": (header(b"\x00\x00\x00"), "the directory has 1 bytes too many"),
    "more tensors than entries": (container(entry(), count=2), "the directory is cut short"),
    "more tensors than bytes": (container(count=100, records=b""), "tensor count is 100"),
    "more metadata than bytes": (container(metadata=b"\x7f"), "metadata count is 127"),
    "metadata that is not UTF-8": (container(entry(), metadata=b"\x01\x01\xff\x00"), "a metadata key is not UTF-8"),
    "a metadata key twice": (container(entry(), metadata=b"\x02" + PAIR + PAIR), "metadata key 'k' occurs twice"),
    "a name twice": (container(entry(), entry(), records=RAW_RECORD * 2), "tensor 'w' occurs twice"),
    "an unknown dtype": (container(entry(dtype=19)), "unknown dtype number 19"),
    "too many dimensions": (container(entry(shape=(1,) * 65)), "tensor 'w' has 65 dimensions"),
    "a dimension beyond the limit": (container(entry(shape=(1 << 41,))), "a dimension of 'w' is"),
    "elements beyond the limit": (container(entry(shape=(1 << 30, 1 << 30))), "tensor 'w' has 1152921504606846976"),
    "a record beyond the file": (container(entry(size=6)), "should have 29 bytes and has 28"),
    "bytes after the last record": (container(entry(), records=RAW_RECORD + b"x"), "should have 28 bytes and has 29"),
    "another record": (container(entry(), records=b"\x00abcX"), "tensor 'w': its checksum does not match"),
    "an empty record": (container(entry(record=b""), records=b""), "tensor 'w' is cut short"),
    "a record that breaks the format": (
        container(entry(record=b"\x10abcd"), records=b"\x10abcd"),
        "tensor 'w': reserved bits are set in its flags 0x10",
    ),
    "too few values": (container(entry(shape=(2,))), "tensor 'w' is cut short: 8 bytes expected, 4 left"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_break_of_the_format_has_its_error(case):
    data, message = CASES[case]
    assert message in str(error_of(data))


@pytest.mark.parametrize("length", range(0, len(WHOLE), 7))
def test_a_container_cut_short_is_refused(length):
    error_of(WHOLE[:length])


@given(st.integers(0, 8 * len(WHOLE) - 1))
def test_a_flipped_bit_is_found_by_a_checksum(bit):
    data = bytearray(WHOLE)
    data[bit // 8] ^= 1 << bit % 8
    error_of(bytes(data))


def test_damage_in_a_record_names_the_tensor():
    with pytest.raises(ChecksumError, match="tensor 'b': its checksum does not match, the file is damaged"):
        Container(WHOLE[:-1] + bytes([WHOLE[-1] ^ 1])).decode()


@settings(deadline=None, max_examples=500)
@given(st.data())
def test_a_damaged_record_with_a_mended_checksum_never_raises_anything_else(data):
    source = Container(WHOLE)
    target = source.directory.entries[0]
    record = bytearray(WHOLE[target.offset : target.offset + target.size])
    for _ in range(data.draw(st.integers(1, 4))):
        record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    forged = container(entry(shape=(3000,), record=bytes(record)), records=bytes(record))
    try:
        decoded = Container(forged).decode()["w"]
    except ContainerError:
        return
    assert decoded.shape == (3000,)
