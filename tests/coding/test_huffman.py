from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcomp.coding import huffman, lockstep, prefix_code, tuning
from dcomp.coding.stream import Model, Stream
from dcomp.coding.wire import Cursor
from dcomp.errors import ContainerError


def coded(symbols, alphabet, **how):
    return huffman.encode_stream(symbols.astype(np.uint8 if alphabet <= 256 else np.uint16), alphabet, **how)


def reparsed(stream):
    cursor = Cursor(stream.to_bytes(), "it")
    parsed = Stream.parse(cursor, stream.count, stream.alphabet, apart=stream.apart)
    cursor.finish()
    return parsed


@st.composite
def symbol_arrays(draw):
    alphabet = draw(st.sampled_from([1, 2, 3, 32, 256, 5000]))
    size = draw(st.integers(1, 5000))
    skew = draw(st.sampled_from([0.3, 1, 4]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return np.minimum((alphabet * rng.random(size) ** (1 / skew)).astype(int), alphabet - 1), alphabet


@given(st.lists(symbol_arrays(), min_size=1, max_size=4))
def test_streams_decoded_together_give_their_symbols_back(drawn):
    streams = [reparsed(coded(symbols, alphabet)) for symbols, alphabet in drawn]
    for decoded, (symbols, _) in zip(lockstep.decode_streams(streams), drawn, strict=True):
        assert np.array_equal(decoded, symbols)


def test_one_symbol_takes_no_payload():
    stream = coded(np.full(1000, 7), 16)
    assert stream.nbytes <= 5
    assert lockstep.decode_streams([reparsed(stream)])[0].tolist() == [7] * 1000


def test_two_symbols_take_a_bit_each(rng):
    stream = coded(rng.integers(0, 2, 900), 2)
    assert len(stream.payload) == 113


def test_65536_letters_survive(rng):
    symbols = rng.permutation(65536)
    assert np.array_equal(lockstep.decode_streams([reparsed(coded(symbols, 65536))])[0], symbols)


def test_the_block_index_stays_below_one_percent(rng):
    stream = coded(np.minimum(rng.geometric(0.1, 300_000), 255), 256)
    assert stream.block_bits.size > 100
    assert stream.nbytes - len(prefix_code.write_lengths(stream.lengths)) < 1.01 * len(stream.payload)


def test_a_stream_is_not_much_longer_than_its_entropy(rng):
    symbols = np.minimum(rng.geometric(0.1, 100_000), 255)
    shares = np.bincount(symbols) / symbols.size
    shares = shares[shares > 0]
    entropy = -(shares * np.log2(shares)).sum() * symbols.size / 8
    assert entropy <= coded(symbols, 256).nbytes < 1.015 * entropy


def walk(rng, size, alphabet):
    """Symbols that are near the one before."""
    return np.abs(np.cumsum(rng.integers(-2, 3, size)) % (2 * alphabet - 2) - alphabet + 1)


@pytest.mark.parametrize("size", [2047, 5000, 70_000, 140_001])
def test_pairs_code_symbols_that_a_bit_each_would_waste(rng, size):
    symbols = (rng.random(size) < 0.1).astype(np.uint8)
    stream = reparsed(coded(symbols, 2))
    assert stream.model is Model.PAIRS
    assert np.array_equal(lockstep.decode_streams([stream])[0], symbols)


@pytest.mark.parametrize("size", [2048, 5000, 70_000, 140_001])
def test_a_chain_codes_symbols_that_tell_of_the_next(rng, size):
    symbols = walk(rng, size, 60)
    stream = reparsed(coded(symbols, 60, chain=True))
    assert stream.model is Model.CHAINED
    assert np.array_equal(lockstep.decode_streams([stream])[0], symbols)
    assert stream.nbytes < 0.8 * coded(symbols, 60).nbytes


def test_a_chain_keeps_symbols_apart_that_have_no_neighbour(rng):
    symbols, follows = walk(rng, 30_000, 60), rng.random(30_000) < 0.7
    symbols[~follows] = rng.integers(0, 60, np.count_nonzero(~follows))
    stream = reparsed(coded(symbols, 60, chain=True, follows=follows))
    assert stream.apart
    assert np.array_equal(lockstep.decode_streams([stream], [follows])[0], symbols)
    assert stream.nbytes < coded(symbols, 60, chain=True).nbytes


def test_chains_where_each_symbol_is_certain_take_no_bits():
    symbols = np.arange(5000) % 20
    stream = coded(symbols, 20, chain=True)
    assert np.array_equal(lockstep.decode_streams([reparsed(stream)])[0], symbols)
    assert stream.nbytes < 1200


def test_a_chain_of_too_few_bits_is_never_written():
    runs = np.concatenate([[2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 1], [2, 3, 4]])  # each tells what comes next
    symbols, follows = np.tile(runs, 600), np.tile(np.isin(np.arange(16), [0, 13], invert=True), 600)
    stream = coded(symbols, 13, chain=True, follows=follows)
    assert stream.model is not Model.CHAINED
    assert np.array_equal(lockstep.decode_streams([reparsed(stream)])[0], symbols)
    symbols[::40] = 12
    assert coded(symbols, 13, chain=True, follows=follows).model is Model.CHAINED


@pytest.mark.parametrize(("letters", "refused"), [(33, True), (32, False)])
def test_a_chain_of_more_letters_than_its_bits_allow_is_refused(letters, refused):
    lone = prefix_code.write_lengths(np.array([[1, 0], [1, 0]], np.uint8))
    data = b"\x20\x02" + lone + b"\x02\0"
    with pytest.raises(ContainerError, match="33 letters in 2 bits") if refused else nullcontext():
        Stream.parse(Cursor(data, "it"), letters, 2)


def test_streams_with_large_tables_are_decoded_in_turn(rng, monkeypatch):
    drawn = [rng.integers(0, 200, 300 + size) for size in range(9)]
    streams = [reparsed(coded(symbols, 256)) for symbols in drawn]
    tables = []
    table_of = prefix_code.decoding_table
    monkeypatch.setattr(tuning, "SHARED_TABLE_ENTRIES", 2 * streams[0].table_entries)
    monkeypatch.setattr(prefix_code, "decoding_table", lambda *code: tables.append(table_of(*code)) or tables[-1])
    for decoded, symbols in zip(lockstep.decode_streams(streams), drawn, strict=True):
        assert np.array_equal(decoded, symbols)
    assert [table.size for table in tables] == [stream.table_entries for stream in streams]


def test_streams_with_codes_of_different_lengths_share_a_loop(rng):
    drawn = [(rng.integers(0, alphabet, 400), alphabet) for alphabet in (2, 5, 40, 300, 3000)]
    streams = [reparsed(coded(symbols, alphabet)) for symbols, alphabet in drawn]
    assert len({stream.table_entries for stream in streams}) > 2
    for decoded, (symbols, _) in zip(lockstep.decode_streams(streams), drawn, strict=True):
        assert np.array_equal(decoded, symbols)


def test_only_damaged_streams_give_an_error(rng):
    undamaged = [coded(rng.integers(0, 5, 700), 5) for _ in range(3)]
    broken = damaged(undamaged[1], payload=bytes(len(undamaged[1].payload)))
    first, second, third = lockstep.decode_each_stream([undamaged[0], broken, undamaged[2]])
    assert isinstance(second, ContainerError)
    assert not isinstance(first, ContainerError) and not isinstance(third, ContainerError)


def test_an_implicit_code_takes_no_table(rng):
    lengths = prefix_code.golomb_lengths(5)
    symbols = np.minimum(rng.geometric(0.13, 500) - 1, lengths.size - 1)
    stream = coded(symbols, lengths.size, implicit_lengths=lengths)
    parsed = Stream.parse(Cursor(stream.to_bytes(), "it"), 500, lengths.size, implicit_lengths=lengths)
    assert np.array_equal(lockstep.decode_streams([parsed])[0], symbols)
    assert stream.nbytes < len(stream.payload) + 6


def damaged(stream, **changes):
    return replace(stream, **changes)


def test_a_block_that_ends_elsewhere_is_refused(rng):
    stream = coded(rng.integers(0, 5, 3000), 5)
    shifted = stream.block_bits.copy()
    shifted[0] += 1
    shifted[1] -= 1
    for broken in (damaged(stream, block_bits=shifted), damaged(stream, payload=bytes(len(stream.payload)))):
        with pytest.raises(ContainerError, match="does not end where the next one starts"):
            lockstep.decode_streams([broken])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exponent": 17}, "reserved value"),
        ({"exponent": 12}, "1000 letters in blocks of 2\\^12"),
        ({"block_bits": np.array([20])}, "1000 letters in 20 bits"),
        ({"payload": b""}, "cut short|more than"),
    ],
)
def test_a_stream_that_breaks_the_format_is_refused(rng, changes, message):
    undamaged = coded(rng.integers(0, 5, 1000), 5)
    stream = damaged(undamaged, **changes)
    with pytest.raises(ContainerError, match=message):
        Stream.parse(Cursor(stream.to_bytes(), "it"), 1000, 5)


def test_streams_decode_in_parts_as_they_do_at_once(rng, monkeypatch):
    drawn = [rng.integers(0, 7, size) for size in (90_000, 40_001, 700)]
    streams = [reparsed(coded(symbols, 7)) for symbols in drawn]
    monkeypatch.setattr(tuning, "DECODED_LETTERS", 5000)
    for decoded, symbols in zip(lockstep.decode_streams(streams), drawn, strict=True):
        assert np.array_equal(decoded, symbols)


def test_entropy_is_the_fewest_bits_of_letters():
    assert huffman.entropy_bits(np.array([4, 2, 1, 1, 0])) == 4 * 1 + 2 * 2 + 2 * 3
    assert huffman.entropy_bits(np.array([0, 9])) == 0
    assert huffman.entropy_bits(np.array([0, 0])) == 0


def test_coded_bits_are_those_of_the_payload(rng):
    symbols = np.minimum(rng.geometric(0.2, 3000), 255)
    counts = huffman.histogram(symbols, 256)
    assert huffman.coded_bits(counts) == coded(symbols, 256).block_bits.sum()
    assert huffman.coded_bits(np.array([0, 50, 0])) == 0


@pytest.mark.parametrize(("alphabet", "size"), [(2, 40_000), (14, 40_000), (256, 40_000), (14, 900), (60, 900)])
@pytest.mark.parametrize("skew", [0.3, 0.9])
def test_an_estimate_is_near_what_a_stream_takes(rng, alphabet, size, skew):
    symbols = np.minimum(rng.geometric(skew, size) - 1, alphabet - 1)
    stream_bits = 8 * coded(symbols, alphabet).nbytes
    assert huffman.estimated_bits(huffman.histogram(symbols, alphabet)) == pytest.approx(stream_bits, rel=0.12)


def test_codes_are_no_longer_than_the_alphabet_demands():
    fibonacci = [1, 1]
    while len(fibonacci) < 24:
        fibonacci.append(sum(fibonacci[-2:]))
    assert huffman.code_lengths(np.array(fibonacci)).max() == 12
    assert huffman.code_lengths(np.array(fibonacci), 9).max() == 9
    assert huffman.code_lengths(np.array([1, 1, 0, 5])).max() == 2
    assert huffman.code_lengths(np.append(np.ones(5000, int), 10**9)).max() <= 15


@pytest.mark.parametrize("size", [10, (1 << 19) - 1, (1 << 20) + 3])
def test_a_histogram_counts_all_symbols(rng, size):
    symbols = rng.integers(0, 7, size)
    assert huffman.histogram(symbols, 9).tolist() == np.bincount(symbols, minlength=9).tolist()


@pytest.mark.parametrize("alphabet", [3, 255, 256])
def test_a_pair_is_its_first_symbol_and_the_second_times_the_alphabet(alphabet):
    symbols = np.array([1, 2, 0, 1, 2], np.uint8)
    assert huffman.pairs_of(symbols, alphabet).tolist() == [1 + 2 * alphabet, alphabet, 2]


def forced(symbols, alphabet, **how):
    """The bytes that symbols take, and that they take as plain letters."""
    stream = coded(symbols, alphabet, **how)
    lengths = huffman.code_lengths(huffman.histogram(symbols, alphabet))
    plain = coded(symbols, alphabet, implicit_lengths=lengths)
    return stream, plain.nbytes + len(prefix_code.write_lengths(lengths[None]))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.45, 0.5])
def test_pairs_are_taken_only_where_they_are_smaller(rng, share):
    symbols = (rng.random(4001) < share).astype(np.uint8)
    stream, plain = forced(symbols, 2)
    assert stream.nbytes <= plain
    assert (stream.model is Model.PAIRS) == (stream.nbytes < plain) == (share < 0.4)


def test_a_chain_is_taken_only_where_it_is_smaller(rng):
    for symbols, tells in ((rng.integers(0, 60, 5000), False), (walk(rng, 5000, 60), True)):
        stream, plain = forced(symbols, 60, chain=True)
        assert stream.nbytes <= plain
        assert (stream.model is Model.CHAINED) == tells
    assert coded(walk(rng, 5000, 60), 60).model is not Model.CHAINED


@pytest.mark.parametrize("alphabet", [13, 1024])
def test_a_chain_may_have_alphabets_of_these_sizes(rng, alphabet):
    symbols = walk(rng, 60_000, alphabet)
    stream = reparsed(coded(symbols, alphabet, chain=True))
    assert stream.model is Model.CHAINED
    assert np.array_equal(lockstep.decode_streams([stream])[0], symbols)


@pytest.mark.parametrize("size", [2, 511, 512, 513, 1024, 20_000, 65_536, 65_537, 400_000])
def test_blocks_are_as_small_as_their_index_allows(rng, size):
    stream = coded(rng.integers(0, 200, size), 200)
    index = stream.nbytes - len(stream.payload) - len(prefix_code.write_lengths(stream.lengths))
    assert index <= 0.005 * len(stream.payload) + 12
    assert (stream.exponent == 0) == (stream.block_bits.size == 1)
    assert stream.exponent <= 16
    if size >= 65_537:
        assert 1 < stream.block_bits.size == -(-size >> stream.exponent)


def test_a_stream_of_many_blocks_decodes_with_others_and_alone(rng, monkeypatch):
    drawn = [np.minimum(rng.geometric(0.3, size), 19) for size in (50_000, 49_999, 800)]
    streams = [reparsed(coded(symbols, 20)) for symbols in drawn]
    monkeypatch.setattr(tuning, "LONE_STREAM_LETTERS", 20_000)
    for decoded, symbols in zip(lockstep.decode_streams(streams), drawn, strict=True):
        assert np.array_equal(decoded, symbols)


@pytest.mark.parametrize("alphabet", [16, 256, 257])
def test_symbols_are_bytes_where_the_alphabet_allows(rng, alphabet):
    for symbols in (np.full(2000, alphabet - 1), rng.integers(0, alphabet, 2000)):
        (decoded,) = lockstep.decode_streams([reparsed(coded(symbols, alphabet))])
        assert decoded.dtype == (np.uint8 if alphabet <= 256 else np.uint16)
        assert np.array_equal(decoded, symbols)


def test_two_symbols_that_take_turns_are_a_lone_pair():
    for size in (2000, 2001):
        symbols = np.arange(size) % 2 + 3
        stream = reparsed(coded(symbols, 16))
        assert np.array_equal(lockstep.decode_streams([stream])[0], symbols)
    assert coded(np.arange(2000) % 2 + 3, 16).nbytes < 12
