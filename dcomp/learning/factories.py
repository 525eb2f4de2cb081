"""Networks, data sets and criteria of the user's code, named as `package.module:factory`."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dcomp.errors import DcompError

TRUST_VARIABLE = "DCOMP_TRUST_CODE"
"""Environment variable that is 1 where a person trusts all code that checkpoints name."""


def check_trusted(name: str, option: str, failure: type[DcompError], *, trusted: bool) -> None:
    """Check that a person agreed to run the code that a checkpoint names. A checkpoint may come from anyone.

    Args:
        name: of the code.
        option: in which a person may name it.
        failure: class of the error.
        trusted: whether the person trusts what checkpoints name.

    Raises:
        failure: nobody agreed.
    """
    if not trusted and os.environ.get(TRUST_VARIABLE) != "1":
        raise failure(
            f"the checkpoint asks for {name!r}; if you trust that code, add {option} {name}, or --trust-code for all "
            f"code that checkpoints name ({TRUST_VARIABLE}=1 says so for all commands)"
        )


def find_factory(name: str, failure: type[DcompError]) -> Callable[..., Any]:
    """Import a module, from the current folder as well, and find the factory of a network or data in it.

    Raises:
        failure: no such module or factory, or the module fails.
    """
    import dcomp.learning.vision  # noqa: F401  # before the module, whose libraries may import torchvision too

    return find_function(name, failure, "make")


def find_function(name: str, failure: type[DcompError], purpose: str) -> Callable[..., Any]:
    """Import a module, from the current folder as well, and find a function in it; torch is not imported.

    Args:
        name: `package.module:function`.
        failure: class of the error.
        purpose: words for what it is for, in the message.

    Raises:
        failure: no such module or function, or the module fails.
    """
    module_name, _, function_name = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    with failing(name, failure, purpose):
        function: Callable[..., Any] = getattr(importlib.import_module(module_name), function_name)
        return function


def call_factory(name: str, failure: type[DcompError], **arguments: object) -> Any:
    """Find a factory and call it.

    Raises:
        failure: no such module or factory, or it fails.
    """
    factory = find_factory(name, failure)
    with failing(name, failure, "make"):
        return factory(**arguments)


@contextmanager
def failing(name: str, failure: type[DcompError], purpose: str) -> Iterator[None]:
    """Raise `failure` for any error in a block that runs the user's code, and where that would end the program."""
    try:
        yield
    except (Exception, SystemExit) as error:  # a module may read the command line, and end at options not its own
        raise failure(f"cannot {purpose} {name}: {type(error).__name__}: {error}") from error
