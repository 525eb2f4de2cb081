import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dcomp.coding import bits

fields = st.lists(st.integers(1, 32).flatmap(lambda w: st.tuples(st.integers(0, 2**w - 1), st.just(w))), max_size=200)


@given(fields)
def test_fields_stand_one_after_the_other_most_significant_bit_first(fields):
    values = np.array([value for value, _ in fields], np.uint64)
    widths = np.array([width for _, width in fields], np.int64)
    text = "".join(f"{value:0{width}b}" for value, width in fields)
    text += "0" * (-len(text) % 8)
    expected = bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
    assert bits.pack(values, widths) == expected


@given(st.integers(0, 32), st.data())
def test_unpack_reads_fields_of_one_width(width, data):
    values = data.draw(st.lists(st.integers(0, 2**width - 1), max_size=50))
    packed = bits.pack(np.array(values), np.full(len(values), width)) if width else b""
    assert bits.unpack(packed, width, len(values)).tolist() == values
