"""YAML files that a user writes: recipes and plans. They may come from anyone, so their size is limited.

The types are text, number, true and false, null, list and mapping; a date is a text. Aliases are allowed, and the
values that they repeat count towards the limit.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from dcomp.errors import RecipeError, reading

MAX_BYTES = 1 << 18
MAX_NESTING = 32
MAX_VALUES = 20_000
"""Values in a file; a value that aliases repeat counts each time."""

MAX_DIGITS = 400
"""Characters of a number; the longest float64 has 309 digits before its point."""

FORBIDDEN = re.compile("[\0\ud800-\udfff]")
"""Characters that a text must not have: NUL, and halves of surrogate pairs."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, without dates, and with errors for repeated keys, huge numbers and forbidden characters."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # a class attribute of the base class
        letter: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _mistake(key, "a key must be a name, not a list or mapping")
        counts = Counter(key.value for key, _ in node.value)
        if repeated := [key for key, count in counts.items() if count > 1]:
            raise _mistake(node, f"{', '.join(repeated)} occurs twice")
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.tag.endswith((":int", ":float")) and len(node.value) > MAX_DIGITS:
            raise _mistake(node, f"a number of {len(node.value):,} characters, more than {MAX_DIGITS}")
        if isinstance(node, yaml.ScalarNode) and FORBIDDEN.search(node.value):
            raise _mistake(node, "a text with a NUL or half a surrogate pair in it")
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # 0b_ looks like a number, and is none
            raise _mistake(node, str(error)) from error


def load_mapping(path: Path, kind: str) -> dict[str, Any]:
    """Read a file whose content is a mapping.

    Args:
        path: the file.
        kind: of the file, for errors, like `recipe`.

    Raises:
        RecipeError: the file cannot be read, or is no YAML, or no mapping.
    """
    with reading(path, RecipeError, f"the {kind}"), path.open("rb") as file:
        written = file.read(MAX_BYTES + 1)
    if len(written) > MAX_BYTES:
        raise RecipeError(f"the {kind} {path} has more than {MAX_BYTES:,} bytes, which is too many")
    try:
        content = parsed(written.decode())
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not a text in UTF-8, so it is no {kind}: name a YAML file") from error
    except ValueError as error:
        raise RecipeError(f"the {kind} {path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"the {kind} {path} is not a mapping of keys to values")
    if non_texts := [repr(key) for key in content if not isinstance(key, str)]:
        raise RecipeError(f"the {kind} {path} has keys that are not texts: {', '.join(non_texts[:3])}")
    return content


def parsed(text: str) -> Any:
    """Read YAML into plain data.

    Raises:
        ValueError: the text is not YAML, or exceeds a limit.
    """
    try:
        _check_events(text)
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_count(node)
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _check_events(text: str) -> None:
    """Raise YAMLError for tags and for deep nesting, before any recursive function reads the text."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        tag, problem = getattr(event, "tag", None), None
        if depth > MAX_NESTING:
            problem = f"lists or mappings nested deeper than {MAX_NESTING}"
        elif count > 2 * MAX_VALUES:
            problem = f"more than {MAX_VALUES:,} values"
        elif tag is not None:
            problem = f"the tag {tag}; only plain texts, numbers, lists and mappings are allowed"
        if problem is not None:
            raise yaml.MarkedYAMLError(None, None, problem, event.start_mark)  # type: ignore[arg-type]  # either parser's


def _check_count(root: yaml.Node) -> None:
    """Raise YAMLError if aliases repeat too many values, or if an alias contains itself."""
    counts: dict[int, int] = {}
    within: set[int] = set()

    def count(node: yaml.Node) -> int:
        if id(node) in within:
            raise _mistake(node, "an alias that contains itself")
        if id(node) not in counts:
            within.add(id(node))
            counts[id(node)] = 1 + sum(map(count, _children(node)))
            within.remove(id(node))
        return counts[id(node)]

    if (values := count(root)) > MAX_VALUES:
        raise _mistake(root, f"{values:,} values, more than {MAX_VALUES:,}: aliases repeat them")


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        yield from (child for pair in node.value for child in pair)
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _mistake(node: yaml.Node, problem: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
