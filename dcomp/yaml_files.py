"""YAML files that a person writes: recipes and plans."""

from pathlib import Path
from typing import Any

import yaml

from dcomp.errors import RecipeError


class _UniqueKeys(yaml.SafeLoader):
    """The safe loader, which takes the last of two equal keys, made to refuse them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(None, None, f"{', '.join(twice)} occurs twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load_mapping(path: Path, what: str) -> dict[Any, Any]:
    """Read a file whose content is a mapping.

    Args:
        path: the file.
        what: what it is to the person who wrote it, like `recipe`.

    Raises:
        RecipeError: not readable, no YAML, or no mapping.
    """
    try:
        content = yaml.load(path.read_text(), _UniqueKeys)
    except OSError as error:
        raise RecipeError(f"cannot read the {what} {path}: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"the {what} {path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"the {what} {path} is not a mapping of keys to values")
    return content
