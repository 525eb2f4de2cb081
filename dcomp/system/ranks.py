"""The rank of this process among those that `torchrun` started; only the first one writes and prints.

The constants have the names of the variables in the environment.
"""

import os

PROBLEMS: list[str] = []
"""Mistakes in the environment, for the command line to report."""


def _number(name: str, default: int, least: int) -> int:
    """Read a number from the environment; record a mistake, and return the default, where it is none."""
    text = os.environ.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and int(text) >= least):
        PROBLEMS.append(
            f"{name} in the environment is {text!r}, no number from {least} on: torchrun sets it, so unset it"
        )
        return default
    return int(text)


WORLD_SIZE = _number("WORLD_SIZE", 1, 1)
RANK = _number("RANK", 0, 0) if WORLD_SIZE > 1 else 0
IS_FIRST = RANK == 0
LOCAL_WORLD_SIZE = _number("LOCAL_WORLD_SIZE", 1, 1)
"""How many of the processes run on this machine, and share its cores."""
