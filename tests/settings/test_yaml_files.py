"""What a person's YAML may hold, and what of it is refused, with one clear error and at once."""

import time
from pathlib import Path

import pytest

from dcomp.errors import RecipeError
from dcomp.settings import recipe, yaml_files


def nested_aliases(levels):
    """Lists of ten aliases of the list before: 10^levels values in some bytes."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, levels)]
    return "\n".join(lines)


HOSTILE = {
    "lists in lists": ("a: " + "[" * 100_000, "lists or mappings nested deeper than 32"),
    "mappings in mappings": ("{a: " * 5000, "lists or mappings nested deeper than 32"),
    "lists by indentation": ("- " * 2000, "lists or mappings nested deeper than 32"),
    "a number of 5,000 digits": ("name: " + "9" * 5000, "a number of 5,000 characters"),
    "a hexadecimal number of 5,000 digits": ("name: 0x" + "f" * 5000, "a number of 5,002 characters"),
    "half a surrogate pair": ('name: "\\ud800"', "half a surrogate pair"),
    "a NUL": ('checkpoint: "a\\0b"', "a NUL"),
    "aliases that multiply": (nested_aliases(9), "aliases repeat them"),
    "an alias that contains itself": ("a: &x [*x]", "an alias that contains itself"),
    "too many values": ("a: [" + "1," * 100_000 + "]", "more than 20,000 values"),
    "too many bytes": ("#" * 300_000, "has more than 262,144 bytes"),
    "a list as a key": ("? [a]\n: b", "a key must be a name"),
    "a tag": ("a: !!timestamp 2024-13-01", "the tag tag:yaml.org,2002:timestamp"),
    "code": ("a: !!python/object/apply:os.getcwd []", "the tag"),
    "a number that is none": ("a: 0b_", "invalid literal"),
    "keys that are not texts": ("1: 2", "has keys that are not texts: 1"),
    "another encoding": (
        "\N{LATIN SMALL LETTER E WITH ACUTE}".encode("latin-1"),
        "is not a text in UTF-8, so it is no recipe: name a YAML file",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_yaml_is_one_error_within_a_second(case, tmp_path, dcomp):
    text, message = HOSTILE[case]
    path = tmp_path / "r.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    began = time.process_time()
    with pytest.raises(RecipeError, match=message):
        yaml_files.load_mapping(path, "recipe")
    assert time.process_time() - began < 5  # some tenths; the limit is for slow machines
    code, _, err = dcomp("run", path)
    assert code == 2
    assert err.startswith("error: ")
    assert "defect" not in err
    code, _, err = dcomp("prune", "x.safetensors", "--plan", path)
    assert (code, "defect" in err) == (2, False)


def test_an_endless_file_is_no_recipe():
    endless = Path("/dev/zero")
    if not endless.exists():
        pytest.skip("there is no /dev/zero")
    with pytest.raises(RecipeError, match="has more than"):
        yaml_files.load_mapping(endless, "recipe")


def test_a_date_is_a_text():
    assert yaml_files.parsed("a: 2024-01-01\nb: 2024-13-45") == {"a": "2024-01-01", "b": "2024-13-45"}


def test_aliases_and_merged_mappings_are_read():
    text = "x: &x {a: 1}\ny: *x\nz: {<<: *x, b: 2}"
    assert yaml_files.parsed(text) == {"x": {"a": 1}, "y": {"a": 1}, "z": {"a": 1, "b": 2}}


BASE = "name: r\ncheckpoint: x.safetensors\n"


@pytest.mark.parametrize("value", ["2024-01-01", "9" * 300, ".inf", ".nan", "-.inf", "[[[1]]]", "{a: 1}", "''"])
@pytest.mark.parametrize(
    "key", ["prune.sparsity", "prune.epochs", "prune.data", "name", "seed", "cache", "quantize.bits"]
)
def test_a_hostile_value_in_a_recipe_is_one_error(key, value, tmp_path, dcomp):
    (tmp_path / "r.yaml").write_text(BASE)
    code, _, err = dcomp("run", tmp_path / "r.yaml", "--out", tmp_path / "out", "--set", f"{key}={value}")
    assert code in (1, 2)
    assert err.startswith("error: ")
    assert "defect" not in err
    assert len(err) < 2000


@pytest.mark.parametrize("override", ["prune." + "9" * 5000 + ".x=1", "prune.\u0663.x=1", "seed=[", "seed=!!int x"])
def test_odd_overrides_are_mistakes(override, tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(BASE + "prune: [{sparsity: 0.5}]\n")
    with pytest.raises(RecipeError, match="--set"):
        recipe.load(path, [override])
