import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcomp.coding import huffman
from dcomp.coding.huffman import Stream
from dcomp.coding.wire import Cursor
from dcomp.errors import ContainerError


def coded(symbols, alphabet):
    return huffman.encode(symbols, huffman.code_lengths(np.bincount(symbols, minlength=alphabet)))


def reparsed(stream, alphabet):
    cursor = Cursor(stream.to_bytes(), "it")
    parsed = Stream.parse(cursor, stream.count, alphabet)
    cursor.finish()
    return parsed


@st.composite
def symbol_arrays(draw):
    alphabet = draw(st.sampled_from([1, 2, 3, 32, 256, 5000]))
    size = draw(st.integers(1, 5000))
    skew = draw(st.sampled_from([0.3, 1, 4]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return np.minimum((alphabet * rng.random(size) ** (1 / skew)).astype(int), alphabet - 1), alphabet


@settings(deadline=None)
@given(st.lists(symbol_arrays(), min_size=1, max_size=4))
def test_streams_decoded_together_give_their_symbols_back(drawn):
    streams = [reparsed(coded(symbols, alphabet), alphabet) for symbols, alphabet in drawn]
    for decoded, (symbols, _) in zip(huffman.decode(streams), drawn, strict=True):
        assert np.array_equal(decoded, symbols)


def test_one_symbol_takes_no_payload():
    stream = coded(np.full(1000, 7), 16)
    assert len(stream.to_bytes()) < 5
    assert huffman.decode([reparsed(stream, 16)])[0].tolist() == [7] * 1000


def test_two_symbols_take_a_bit_each(rng):
    stream = coded(rng.integers(0, 2, 8000), 2)
    assert len(stream.payload) == 1000


def test_65536_letters_survive(rng):
    symbols = rng.permutation(65536)
    assert np.array_equal(huffman.decode([reparsed(coded(symbols, 65536), 65536)])[0], symbols)


def test_the_block_index_stays_below_one_percent(rng):
    stream = coded(np.minimum(rng.geometric(0.1, 300_000), 255), 256)
    assert stream.block_bits.size > 100
    assert len(huffman._index(stream.block_bits)) < 0.01 * len(stream.payload)


def test_a_stream_is_not_much_longer_than_its_entropy(rng):
    symbols = np.minimum(rng.geometric(0.1, 100_000), 255)
    shares = np.bincount(symbols) / symbols.size
    shares = shares[shares > 0]
    entropy = -(shares * np.log2(shares)).sum() * symbols.size / 8
    assert entropy <= len(coded(symbols, 256).to_bytes()) < 1.015 * entropy


def damaged(stream, **changes):
    fields = {name: getattr(stream, name) for name in ("count", "lengths", "exponent", "block_bits", "payload")}
    return Stream(**{**fields, **changes})


def test_a_block_that_ends_elsewhere_is_refused(rng):
    stream = coded(rng.integers(0, 5, 3000), 5)
    shifted = stream.block_bits.copy()
    shifted[0] += 1
    shifted[1] -= 1
    for broken in (damaged(stream, block_bits=shifted), damaged(stream, payload=bytes(len(stream.payload)))):
        with pytest.raises(ContainerError, match="does not end where the next one starts"):
            huffman.decode([broken])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exponent": 17}, "2\\^17 symbols"),
        ({"block_bits": np.array([10, 10])}, "symbols in 20 bits"),
        ({"payload": b""}, "cut short|more than"),
    ],
)
def test_a_stream_that_breaks_the_format_is_refused(rng, changes, message):
    stream = damaged(coded(rng.integers(0, 5, 1000), 5), **changes)
    with pytest.raises(ContainerError, match=message):
        Stream.parse(Cursor(stream.to_bytes(), "it"), 1000, 5)
