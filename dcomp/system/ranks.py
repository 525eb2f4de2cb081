"""Which of several processes this is: `torchrun` says so in the environment. The first alone writes and speaks."""

import os

PROBLEMS: list[str] = []
"""What is wrong with the environment; the command line tells it."""


def _number(name: str, default: int, least: int) -> int:
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
"""How many of them are on this machine, and share its cores."""
