"""Files written once, which every dcomp of this format version must read alike, and write alike.

What zstandard compressed may come out otherwise in another release of it; that is only read.
"""

import re
from pathlib import Path

import pytest

import dcomp
import dcomp.container
from dcomp.checkpoints import safetensors_file
from dcomp.coding import encoder
from dcomp.container.reader import Container
from dcomp.container.verification import identical

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = ["format-example", "forms", "bits"]
BY_ZSTANDARD = {"zstd", "zstd in planes", "widened"}


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_file_decodes_to_its_checkpoint(name):
    decoded = Container.open(GOLDEN / f"{name}.dcz").checkpoint()
    assert identical(decoded, safetensors_file.load_file(GOLDEN / f"{name}.safetensors"))


@pytest.mark.parametrize("name", NAMES)
def test_encoding_gives_the_golden_records(name):
    golden = Container.open(GOLDEN / f"{name}.dcz")
    for key, array in safetensors_file.load_file(GOLDEN / f"{name}.safetensors").tensors.items():
        if key not in BY_ZSTANDARD:
            assert encoder.encode_tensor(array).record == golden.encoded(key).record, key


def test_floats_widened_from_half_their_size_have_their_signs_as_bits():
    array = safetensors_file.load_file(GOLDEN / "bits.safetensors").tensors["widened"]
    forms = [type(plane).__name__ for plane in encoder.encode_tensor(array).values.planes]
    assert forms == ["Zstd", "Raw", "Zstd", "BitPlane"]
    golden = Container.open(GOLDEN / "bits.dcz").encoded("widened")
    assert [type(plane).__name__ for plane in golden.values.planes] == forms


def test_encoding_gives_the_golden_file():
    tensors = safetensors_file.load_file(GOLDEN / "format-example.safetensors").tensors
    assert dcomp.save(tensors) == (GOLDEN / "format-example.dcz").read_bytes()


def test_every_golden_file_is_tested():
    assert {path.stem for path in GOLDEN.glob("*.dcz")} == set(NAMES)


def test_the_hexdump_of_the_format_is_the_golden_file():
    text = (Path(dcomp.container.__file__).parent / "FORMAT.md").read_text()
    rows = re.findall(r"^\| `([0-9A-F ]+)` \|", text.partition("## 8")[2].partition("## 9")[0], re.MULTILINE)
    assert bytes.fromhex("".join(rows)) == (GOLDEN / "format-example.dcz").read_bytes()


def test_the_goldens_hold_every_form_and_model_of_the_format():
    golden = Container.open(GOLDEN / "forms.dcz")
    encoded = [golden.encoded(name) for name in golden.names]
    seen = {type(tensor.values).__name__ for tensor in encoded}
    seen |= {stream.model.name for tensor in encoded for stream in tensor.streams}
    seen |= {"Golomb" for tensor in encoded for stream in tensor.streams if stream.implicit_code}
    seen |= {"apart" for tensor in encoded for stream in tensor.streams if stream.apart}
    seen |= {"columns first" for tensor in encoded if tensor.columns_first}
    seen |= {"classes" for tensor in encoded if tensor.index is not None and tensor.index.classes is not None}
    seen |= {"tied" for entry in golden.directory.entries if entry.tied_to is not None}
    forms = {"Raw", "Zstd", "Shared", "Planes", "PLAIN", "PAIRS", "CHAINED"}
    assert seen == forms | {"Golomb", "apart", "columns first", "classes", "tied"}
