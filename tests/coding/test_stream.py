import numpy as np
import pytest

from dcomp.coding import huffman, stream
from dcomp.coding.stream import Model, Stream
from dcomp.coding.wire import Cursor, varint
from dcomp.errors import ContainerError


def parsed(data, count, alphabet, **how):
    cursor = Cursor(data, "it")
    stream_read = Stream.parse(cursor, count, alphabet, **how)
    cursor.finish()
    return stream_read


def chained(rng, size=5000, alphabet=60):
    walk = np.abs(np.cumsum(rng.integers(-2, 3, size)) % (2 * alphabet - 2) - alphabet + 1)
    return huffman.encode_stream(walk.astype(np.uint8), alphabet, chain=True)


def test_a_letter_is_a_symbol_or_two_of_them(rng):
    assert chained(rng).letters == 5000
    for count, letters in ((5000, 2500), (5001, 2501)):
        pairs = huffman.encode_stream((rng.random(count) < 0.1).astype(np.uint8), 2)
        assert (pairs.model, pairs.letters) == (Model.PAIRS, letters)


def test_the_sizes_of_blocks_come_back(rng):
    coded = huffman.encode_stream(rng.integers(0, 200, 100_000).astype(np.uint8), 200)
    back = parsed(coded.to_bytes(), 100_000, 200)
    assert back.exponent == coded.exponent
    assert np.array_equal(back.block_bits, coded.block_bits)
    assert back.block_bits.sum() <= 8 * len(back.payload) < back.block_bits.sum() + 8


def test_the_index_holds_sizes_beyond_the_shortest():
    assert stream.index_shape(np.array([100, 107, 103, 5])) == (100, 3)
    assert stream.index_shape(np.array([100, 108, 5])) == (100, 4)
    assert stream.index_shape(np.array([100, 100, 5])) == (100, 0)


def test_a_lone_letter_takes_no_bits():
    lengths = np.array([[1, 2, 2], [0, 1, 0]], np.uint8)
    assert stream.widths_of(lengths).tolist() == [[1, 2, 2], [0, 0, 0]]


def test_the_code_after_a_symbol_is_that_of_its_class():
    assert stream.next_codes(6, 3, apart=False).tolist() == [0, 0, 1, 1, 2, 2]
    assert stream.next_codes(6, 3, apart=True).tolist() == [1, 1, 1, 2, 2, 2]
    assert stream.next_codes(7, 3, apart=False).tolist() == [0, 0, 0, 1, 1, 2, 2]


CODE = bytes([0b11100000, 0b00000000])  # both letters of an alphabet of two with a bit each


@pytest.mark.parametrize(
    ("data", "count", "alphabet", "message"),
    [
        (b"\x30", 5, 2, "reserved value 0x30"),
        (b"\x0a", 5, 2, "reserved value 0x0a"),
        (b"\x10", 5, 257, "pairs over an alphabet of 257"),
        (b"\x20\x01", 5, 2, "a chain of 1 codes over 2"),
        (b"\x20\x11", 5, 2, "a chain of 17 codes over 2"),
        (b"\x20\x02", 5, 1025, "a chain of 2 codes over 1025"),
        (b"\x01" + CODE, 256, 2, r"256 letters in blocks of 2\^8"),
        (b"\x01" + bytes([0b11100000, 0b11111000]), 300, 2, "blocks where letters take no bits"),
        (b"\x00" + CODE, (1 << 16) + 1, 2, "65537 letters in one block"),
        (b"\x00" + CODE + varint(4) + b"\x00", 5, 2, "5 letters in 4 bits"),
        (b"\x00" + CODE + varint(17) + b"\x00", 5, 2, "payload bits is 17, more than 16"),
        (b"\x01" + CODE + varint(300) + varint(301) + bytes(40), 300, 2, "shortest block is 301, more than 300"),
        (b"\x01" + CODE + varint(300) + varint(256) + b"\x21" + bytes(60), 300, 2, "index entries of 33 bits"),
        (b"\x01" + CODE + varint(300) + varint(256) + b"\x08\xff" + bytes(60), 300, 2, "longer than the payload"),
    ],
)
def test_a_stream_beyond_its_limits_is_refused(data, count, alphabet, message):
    with pytest.raises(ContainerError, match=message):
        parsed(data, count, alphabet)


def test_a_stream_at_its_limits_is_read():
    one_block = parsed(b"\x00" + CODE + varint(1 << 16) + bytes(1 << 13), 1 << 16, 2)
    assert (one_block.exponent, one_block.block_bits.tolist()) == (0, [1 << 16])
    data = b"\x01" + CODE + varint(300) + varint(256) + b"\x00" + bytes(38)
    assert parsed(data, 300, 2).block_bits.tolist() == [256, 44]
    nothing_left = b"\x01" + CODE + varint(300) + varint(300) + b"\x00" + bytes(38)
    assert parsed(nothing_left, 300, 2).block_bits.tolist() == [300, 0]
    widest = b"\x01" + CODE + varint(300) + varint(0) + b"\x20" + (256).to_bytes(4, "big") + bytes(38)
    assert parsed(widest, 300, 2).block_bits.tolist() == [256, 44]


def test_only_a_plain_stream_may_have_an_implicit_code():
    lengths = np.array([1, 1], np.uint8)
    assert parsed(b"\x00\x05\x00", 5, 2, implicit_lengths=lengths).implicit_code
    with pytest.raises(ContainerError, match="reserved value 0x10"):
        parsed(b"\x10\x05\x00", 5, 2, implicit_lengths=lengths)


def test_only_a_chain_keeps_symbols_apart(rng):
    plain = huffman.encode_stream(rng.integers(0, 60, 5000).astype(np.uint8), 60)
    assert parsed(chained(rng).to_bytes(), 5000, 60, apart=True).apart
    assert not parsed(plain.to_bytes(), 5000, 60, apart=True).apart
