"""The table of forms: what a form of one's own has to do, and nothing else."""

from dataclasses import dataclass

import numpy as np
import pytest

from dcomp.coding import encoder, value_forms
from dcomp.coding.decoder import decode_tensors
from dcomp.coding.raw import Raw
from dcomp.coding.record import EncodedTensor
from dcomp.coding.value_forms import FORMS
from dcomp.coding.values import Values
from dcomp.coding.wire import Cursor


@dataclass(frozen=True)
class Ascending(Values):
    """Values that ascend by one, as the first of them."""

    first: np.ndarray
    count: int

    @property
    def nbytes(self):
        return self.first.nbytes

    def parts(self):
        yield self.first.view(np.uint8).data

    def patterns(self, symbols):
        return self.first + np.arange(self.count, dtype=self.first.dtype)

    @classmethod
    def parse(cls, cursor, context):
        itemsize = context.dtype.itemsize
        return cls(np.frombuffer(cursor.take(itemsize), f"<u{itemsize}"), context.count)

    @classmethod
    def smaller(cls, patterns, dtype, limit, level):
        values = cls(patterns[:1], patterns.size)
        return values if values.nbytes < limit and np.array_equal(values.patterns(iter(())), patterns) else None


@pytest.mark.parametrize("number", [4, 255])
def test_a_form_is_added_by_one_line_in_the_table(monkeypatch, number):
    monkeypatch.setitem(FORMS, number, Ascending)
    array = np.arange(7, 1007, dtype=np.int32)
    encoded = encoder.encode_tensor(array)
    assert encoded.record == bytes([64, number, 7, 0, 0, 0])
    assert encoded.nbytes == 6
    parsed = EncodedTensor.parse(encoded.record, array.dtype, array.shape, "it")
    assert parsed == encoded
    (decoded,) = decode_tensors([parsed])
    assert np.array_equal(decoded, array)


def test_a_form_follows_positions(monkeypatch):
    monkeypatch.setitem(FORMS, 4, Ascending)
    array = np.zeros(4000, np.int32)
    array[::5] = np.arange(7, 807)
    encoded = encoder.encode_tensor(array)
    assert encoded.record[:2] == bytes([65, 4])
    (decoded,) = decode_tensors([EncodedTensor.parse(encoded.record, array.dtype, array.shape, "it")])
    assert np.array_equal(decoded, array)


@pytest.mark.parametrize("number", range(4))
def test_forms_up_to_three_stand_in_the_flags(number):
    assert value_forms.parse_form(Cursor(b"", "it"), number << 1) is FORMS[number]


def test_a_form_is_named_by_the_flags():
    assert [value_forms.form_name(flags) for flags in (1, 2, 4, 7, 64)] == [
        *("raw", "zstd", "shared", "planes", "later form")
    ]


def test_raw_values_set_no_flags():
    assert value_forms.form_head(Raw(np.zeros(1, np.uint32))) == (0, b"")
