import heapq
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcomp.coding import prefix_code
from dcomp.coding.wire import Cursor
from dcomp.errors import ContainerError

counts_of = st.lists(st.integers(0, 1000), min_size=1, max_size=200).map(np.array)


def huffman_cost(counts):
    """Bits of the unlimited Huffman code: the sum of all inner nodes."""
    heap = [int(count) for count in counts if count]
    heapq.heapify(heap)
    cost = 0
    while len(heap) > 1:
        node = heapq.heappop(heap) + heapq.heappop(heap)
        cost += node
        heapq.heappush(heap, node)
    return cost


@given(counts_of)
def test_lengths_are_those_of_a_complete_and_optimal_code(counts):
    lengths = prefix_code.optimal_lengths(counts, 16).astype(int)
    present = counts > 0
    assert np.array_equal(lengths > 0, present)
    if present.sum() > 1:
        assert (2.0 ** -lengths[present]).sum() == 1
        assert (lengths * counts).sum() == huffman_cost(counts)


def test_a_limit_bounds_lengths_that_would_be_longer():
    fibonacci = [1, 1]
    while len(fibonacci) < 30:
        fibonacci.append(sum(fibonacci[-2:]))
    lengths = prefix_code.optimal_lengths(np.array(fibonacci), 8).astype(int)
    assert lengths.max() == 8
    assert (2.0**-lengths).sum() == 1


def test_65536_letters_fit_the_longest_code():
    assert (prefix_code.optimal_lengths(np.arange(1, 65537), 16) == 16).all()


def test_the_worked_example_of_the_format_holds_down_to_the_bit():
    lengths = np.array([2, 3, 0, 1, 3], np.uint8)
    assert prefix_code.write_lengths(lengths[None]) == bytes.fromhex("e19fdc")
    assert [f"{prefix_code.codes(lengths)[letter]:0{lengths[letter]}b}" for letter in (3, 0, 1, 4)] == [
        "0",
        "10",
        "110",
        "111",
    ]


@given(counts_of.filter(lambda counts: counts.any()), st.integers(8, 16), st.integers(1, 3))
def test_code_lengths_come_back_from_their_bit_string(counts, limit, codes):
    lengths = np.stack([prefix_code.optimal_lengths(counts, limit)] * codes)
    cursor = Cursor(prefix_code.write_lengths(lengths) + b"next", "it")
    assert np.array_equal(prefix_code.read_lengths(cursor, codes, counts.size), lengths)
    assert bytes(cursor.take(4)) == b"next"


@pytest.mark.parametrize("limit", [2, 3, 5])
def test_a_limited_code_is_the_shortest_of_those_within_the_limit(limit):
    counts = np.array([1, 40, 3, 8])
    within = itertools.product(range(1, limit + 1), repeat=4)
    best = min(int(np.dot(lengths, counts)) for lengths in within if sum(2.0**-length for length in lengths) <= 1)
    assert int(prefix_code.optimal_lengths(counts, limit) @ counts) == best


def test_a_lone_letter_has_a_code_of_one_bit_and_no_letter_none():
    assert prefix_code.optimal_lengths(np.array([0, 7, 0]), 12).tolist() == [0, 1, 0]
    assert prefix_code.optimal_lengths(np.array([0, 0]), 12).tolist() == [0, 0]


@pytest.mark.parametrize(("letter", "alphabet"), [(0, 1), (0, 2), (1, 2), (1, 3), (6, 7), (6, 300), (299, 300)])
def test_the_length_of_a_lone_letter_comes_back_wherever_it_stands(letter, alphabet):
    lengths = np.zeros((1, alphabet), np.uint8)
    lengths[0, letter] = 1
    cursor = Cursor(prefix_code.write_lengths(lengths), "it")
    assert np.array_equal(prefix_code.read_lengths(cursor, 1, alphabet), lengths)
    cursor.finish()


@given(st.permutations([*range(1, 17), 16, 0, 0, 0]))
def test_lengths_that_rise_and_fall_come_back(lengths):
    cursor = Cursor(prefix_code.write_lengths(np.array([lengths], np.uint8)), "it")
    assert prefix_code.read_lengths(cursor, 1, len(lengths)).tolist() == [lengths]
    cursor.finish()


@given(counts_of.filter(lambda counts: np.count_nonzero(counts) > 1))
def test_the_decoding_table_is_the_inverse_of_the_codes(counts):
    lengths = prefix_code.optimal_lengths(counts, 12)
    longest = int(lengths.max())
    table = prefix_code.decoding_table(lengths, np.arange(lengths.size), longest)
    for letter in np.flatnonzero(lengths):
        code, length = int(prefix_code.codes(lengths)[letter]), int(lengths[letter])
        entries = table[code << longest - length : (code + 1) << longest - length]
        assert (entries == letter).all()


@pytest.mark.parametrize("divisor", [1, 2, 3, 5, 8, 100, 4095, 4096])
def test_a_golomb_code_is_complete_and_within_the_limit(divisor):
    lengths = prefix_code.golomb_lengths(divisor).astype(int)
    assert (2.0**-lengths).sum() == 1
    assert lengths.max() <= 16
    assert (lengths.size - 1) % divisor == 0


def test_the_golomb_code_of_five_is_that_of_the_book():
    lengths = prefix_code.golomb_lengths(5)  # remainders 0 to 2 in two bits, 3 and 4 in three, after the quotient
    assert lengths[:11].tolist() == [3, 3, 3, 4, 4, 4, 4, 4, 5, 5, 5]
    assert (lengths.size, lengths[-1]) == (8 * 5 + 1, 8)


def bit_string(text: str) -> bytes:
    digits = text.replace(" ", "")
    digits += "0" * (-len(digits) % 8)
    return bytes(int(digits[i : i + 8], 2) for i in range(0, len(digits), 8))


@pytest.mark.parametrize(
    ("field", "alphabet", "message"),
    [
        ("0", 2, "first code length is relative to none"),
        ("100", 2, "first code length is relative to none"),
        ("11100000 101", 2, "letter 1 has a code of 0 bits"),
        ("11101111 100", 2, "letter 1 has a code of 17 bits"),
        ("11100001 0", 2, "not complete"),
        ("11100000 0 0", 3, "not complete"),
        ("11100001 1111 1", 2, "only letter has a code of 2 bits"),
        ("1111 00100", 2, "leaves the alphabet"),
        ("1111 011", 2, "leaves the alphabet"),
        ("11100000 1111 011", 3, "leaves the alphabet"),
        ("1111 010", 2, "a code without letters"),
        ("11100000", 2, "cut short"),
    ],
)
def test_lengths_that_make_no_code_are_refused(field, alphabet, message):
    with pytest.raises(ContainerError, match=message):
        prefix_code.read_lengths(Cursor(bit_string(field), "it"), 1, alphabet)
