"""Tests of the exceptions: the tree in their module's docstring, and the wrapping of system errors."""

import re

import pytest

from dcomp import errors
from dcomp.errors import CheckpointError, DcompError, UsageError, reading

LINE = re.compile(r"^ {4}(?P<branch>[│├└─ ]*)(?P<name>\w+Error) .*?(?:\((?:exit code )?(?P<code>\d+)[^)]*\))?$")


def drawn_tree():
    """Return parent and exit code of each class in the docstring's tree, by name; None where it draws none."""
    tree, parents = {}, []
    for line in errors.__doc__.splitlines():
        if match := LINE.match(line):
            depth = len(match["branch"]) // 4
            parents = [*parents[:depth], match["name"]]
            tree[match["name"]] = (parents[-2] if depth else None, match["code"] and int(match["code"]))
    return tree


def classes():
    return {
        name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, DcompError)
    }


def test_the_tree_has_every_class_under_its_parent():
    parents = {name: kind.__base__.__name__ for name, kind in classes().items()}
    assert {name: parent for name, (parent, _) in drawn_tree().items()} == parents | {"DcompError": None}


def test_the_tree_has_the_exit_codes():
    tree = drawn_tree()
    for name, kind in classes().items():
        while (code := tree[name][1]) is None:
            name = tree[name][0]
        assert kind.exit_code == code


def test_reading_names_the_file_and_its_kind():
    message = r"^cannot read the plan a\.yaml: No such file"
    with pytest.raises(CheckpointError, match=message), reading("a.yaml", CheckpointError, "the plan"):
        raise FileNotFoundError(2, "No such file or directory")


def test_reading_shows_a_null_character():
    message = r"^cannot read 'a\\x00b': embedded null byte$"
    with pytest.raises(CheckpointError, match=message), reading("a\0b", CheckpointError):
        raise ValueError("embedded null byte")


def test_several_mistakes_stand_under_their_number():
    assert errors.several("the grid", ["one", UsageError("two")]) == "the grid has 2 mistakes:\n  one\n  two"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("arch", "; did you mean architecture?"), ("sparsty", "; did you mean sparsity?"), ("colour", "")],
)
def test_a_name_that_begins_as_it_does_is_suggested_first(name, hint):
    assert errors.did_you_mean(name, ["search", "architecture", "sparsity"]) == hint


def test_the_nearest_names_are_listed_however_far_they_are():
    assert errors.nearest("fc2", ["conv", "fc1", "fc3", "x"]) == "the nearest are fc3, fc1, conv"
    assert errors.nearest("fc2", []) == "the nearest are none"
