import re
from pathlib import Path

import pytest

import dcomp.container
from dcomp.checkpoints import dtypes
from dcomp.coding import limits
from dcomp.coding.value_forms import FORMS
from dcomp.container import layout

FORMAT = (Path(dcomp.container.__file__).parent / "FORMAT.md").read_text()


def test_the_limits_of_the_format_and_of_the_code_agree():
    written = {name: int(value) for name, value in re.findall(r"^\| (M\w+) \| (\d+) \|", FORMAT, re.MULTILINE)}
    assert written == {name: value for name, value in vars(limits).items() if name.startswith(("MAX_", "MIN_"))}


def test_the_dtype_numbers_of_the_format_and_of_the_code_agree():
    rows = re.findall(r"\| (\d+) \| (\w+) \| (\d) (?=\|)", FORMAT.partition("## 7")[2])
    written = {name: (int(number), int(size)) for number, name, size in rows}
    assert written == {name: (number, dtypes.BY_NAME[name].itemsize) for name, number in layout.DTYPE_NUMBERS.items()}


def test_the_forms_of_the_format_and_of_the_code_agree():
    section = FORMAT.partition("### 4.2")[2].partition("### 4.3")[0]
    written = {int(number): name for number, name in re.findall(r"^\| (\d) \| (\w+) \|", section, re.MULTILINE)}
    assert written == {number: form.__name__.lower() for number, form in FORMS.items()}


def test_no_line_of_the_format_is_longer_than_120_characters():
    assert [line for line in FORMAT.splitlines() if len(line) > 120] == []


@pytest.mark.parametrize("field", ["magic", "version"])
def test_the_header_of_the_format_and_of_the_code_agree(field):
    row = next(line for line in FORMAT.splitlines() if line.startswith(f"| {field} |"))
    assert {"magic": "89 44 43 5A", "version": "| 2 |"}[field] in row
    assert (layout.MAGIC.hex(" ").upper(), layout.VERSION) == ("89 44 43 5A", 2)
