"""Networks and data sets of the user's code, named as `package.module:factory`."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dcomp.errors import DcompError


def find_factory(name: str, failure: type[DcompError]) -> Callable[..., Any]:
    """Import a module, from the current folder as well, and find the factory in it.

    Raises:
        failure: no such module or factory, or the module fails.
    """
    module_name, _, factory_name = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    import dcomp.learning.vision  # noqa: F401  # before the module, whose libraries may import torchvision too

    with _failing(name, failure):
        factory: Callable[..., Any] = getattr(importlib.import_module(module_name), factory_name)
        return factory


def call_factory(name: str, failure: type[DcompError], **arguments: object) -> Any:
    """Find a factory and call it.

    Raises:
        failure: no such module or factory, or it fails.
    """
    factory = find_factory(name, failure)
    with _failing(name, failure):
        return factory(**arguments)


@contextmanager
def _failing(name: str, failure: type[DcompError]) -> Iterator[None]:
    """Raise `failure` for any error in a block."""
    try:
        yield
    except Exception as error:  # the user's code may raise anything
        raise failure(f"cannot make {name}: {type(error).__name__}: {error}") from error
