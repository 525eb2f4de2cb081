"""What a person's own code makes: networks and data sets by `package.module:factory`."""

import importlib
import sys
from pathlib import Path
from typing import Any

from dcomp.errors import DcompError


def call_factory(name: str, failure: type[DcompError], **arguments: object) -> Any:
    """Import a module, from the current folder as well, and call the factory in it.

    Raises:
        failure: no such module or factory, or it fails.
    """
    module_name, _, factory_name = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module_name), factory_name)(**arguments)
    except Exception as error:  # the user's code may raise anything
        raise failure(f"cannot make {name}: {type(error).__name__}: {error}") from error
