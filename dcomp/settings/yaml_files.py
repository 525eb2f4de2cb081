"""YAML files that a person writes: recipes and plans. They may come from anyone, so what they may ask is bounded.

Of YAML's types there are texts, numbers, true and false, null, lists and mappings; a date is a text. Aliases may repeat
what stands elsewhere, as often as the limit of values allows.
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
"""Values of a file, those that aliases repeat counted each time."""

MAX_DIGITS = 400
"""Characters of a number; the longest of a float64 takes 309."""

NO_TEXT = re.compile("[\0\ud800-\udfff]")
"""Characters that no text of a file, nor a name of one, has."""


class _Loader(yaml.SafeLoader):
    """The safe loader, without dates, and with mistakes for what it takes as it comes or cannot take."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # as the loader has it
        letter: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _mistake(key, "a key is a name, not a list or mapping")
        counts = Counter(key.value for key, _ in node.value)
        if twice := [key for key, count in counts.items() if count > 1]:
            raise _mistake(node, f"{', '.join(twice)} occurs twice")
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.tag.endswith((":int", ":float")) and len(node.value) > MAX_DIGITS:
            raise _mistake(node, f"a number of {len(node.value):,} characters")
        if isinstance(node, yaml.ScalarNode) and NO_TEXT.search(node.value):
            raise _mistake(node, "a text with a NUL or half a surrogate pair in it")
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # what looks like a number and is none, like 0b_
            raise _mistake(node, str(error)) from error


def load_mapping(path: Path, what: str) -> dict[str, Any]:
    """Read a file whose content is a mapping.

    Args:
        path: the file.
        what: what it is to the person who wrote it, like `recipe`.

    Raises:
        RecipeError: not readable, no YAML, or no mapping.
    """
    with reading(path, RecipeError, f"the {what}"), path.open("rb") as file:
        written = file.read(MAX_BYTES + 1)
    if len(written) > MAX_BYTES:
        raise RecipeError(f"the {what} {path} has more than {MAX_BYTES:,} bytes, and so is none")
    try:
        content = parsed(written.decode())
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} holds no text in UTF-8, and so is no {what}: name a {what}, a YAML file") from error
    except ValueError as error:
        raise RecipeError(f"the {what} {path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"the {what} {path} is not a mapping of keys to values")
    if odd := [repr(key) for key in content if not isinstance(key, str)]:
        raise RecipeError(f"the {what} {path} has keys that are no names: {', '.join(odd[:3])}")
    return content


def parsed(text: str) -> Any:
    """Read YAML into plain data.

    Raises:
        ValueError: it is none, or goes beyond a limit.
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
    """Refuse tags, and lists in lists in lists, before a recursion reads them."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        tag, wrong = getattr(event, "tag", None), None
        if depth > MAX_NESTING:
            wrong = f"more than {MAX_NESTING} lists or mappings in each other"
        elif count > 2 * MAX_VALUES:
            wrong = f"more than {MAX_VALUES:,} values"
        elif tag is not None:
            wrong = f"the tag {tag}, where only plain texts, numbers, lists and mappings are read"
        if wrong is not None:
            raise yaml.MarkedYAMLError(None, None, wrong, event.start_mark)  # type: ignore[arg-type]  # either parser's


def _check_count(root: yaml.Node) -> None:
    """Refuse aliases that multiply, or that stand within what they repeat."""
    counts: dict[int, int] = {}
    within: set[int] = set()

    def count(node: yaml.Node) -> int:
        if id(node) in within:
            raise _mistake(node, "an alias of what it stands in")
        if id(node) not in counts:
            within.add(id(node))
            counts[id(node)] = 1 + sum(map(count, _parts(node)))
            within.remove(id(node))
        return counts[id(node)]

    if (values := count(root)) > MAX_VALUES:
        raise _mistake(root, f"{values:,} values, where {MAX_VALUES:,} are the most: aliases multiply them")


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        yield from (part for pair in node.value for part in pair)
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _mistake(node: yaml.Node, what: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, what, node.start_mark)
