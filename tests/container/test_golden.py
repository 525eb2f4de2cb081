"""Files written once, which every dcomp of this format version must read and write alike."""

import importlib.util
import re
from pathlib import Path

import pytest

import dcomp
import dcomp.container
from dcomp.container.reader import Container

GOLDEN = Path(__file__).parents[1] / "golden"

_spec = importlib.util.spec_from_file_location("make", GOLDEN / "make.py")
assert _spec and _spec.loader
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)


@pytest.mark.parametrize("name", make.tensors_of())
def test_a_golden_file_decodes_to_the_tensors_it_was_made_from(name):
    decoded = dcomp.load_file(GOLDEN / f"{name}.dcz")
    expected = make.tensors_of()[name]
    assert list(decoded) == list(expected)
    for key, array in expected.items():
        assert (decoded[key].dtype, decoded[key].shape) == (array.dtype, array.shape)
        assert decoded[key].tobytes() == array.tobytes()


@pytest.mark.parametrize("name", make.tensors_of())
def test_encoding_gives_the_golden_bytes(name):
    golden = GOLDEN / f"{name}.dcz"
    metadata = Container.open(golden).metadata
    assert dcomp.save(make.tensors_of()[name], metadata) == golden.read_bytes()


def test_the_golden_file_of_all_forms_keeps_its_metadata():
    assert Container.open(GOLDEN / "forms.dcz").metadata == make.METADATA


def test_every_golden_file_is_known():
    assert {path.stem for path in GOLDEN.glob("*.dcz")} == set(make.tensors_of())


def test_the_hexdump_of_the_format_is_the_golden_file():
    text = (Path(dcomp.container.__file__).parent / "FORMAT.md").read_text()
    rows = re.findall(r"^\| `([0-9A-F ]+)` \|", text.partition("## 8")[2].partition("## 9")[0], re.MULTILINE)
    assert bytes.fromhex("".join(rows)) == (GOLDEN / "format-example.dcz").read_bytes()
