import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcomp.coding.wire import Cursor, string, varint
from dcomp.errors import ContainerError


@given(st.integers(0, 2**62), st.text())
def test_varints_and_strings_come_back(number, text):
    cursor = Cursor(varint(number) + string(text), "it")
    assert cursor.varint(2**63, "number") == number
    assert cursor.string("text") == text
    cursor.finish()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut short"),
        (b"\x80", "cut short"),
        (b"\x80\x00", "longer than it needs"),
        (b"\xff" * 9 + b"\x01", "more than 9 bytes"),
        (b"\x65", "is 101, more than 100"),
    ],
)
def test_a_varint_that_breaks_the_format_is_refused(data, message):
    with pytest.raises(ContainerError, match=message):
        Cursor(data, "it").varint(100, "number")


def test_bytes_that_are_not_utf8_are_refused():
    with pytest.raises(ContainerError, match="name is not UTF-8"):
        Cursor(b"\x01\xff", "it").string("name")


def test_bytes_left_over_are_refused():
    with pytest.raises(ContainerError, match="it has 2 bytes too many"):
        Cursor(b"ab", "it").finish()
