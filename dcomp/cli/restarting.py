"""Say how to go on from where a command was stopped."""

import shlex
from collections.abc import Sequence

from dcomp.system.ranks import WORLD_SIZE

WHOLE_RUNS = ("run", "sweep", "demo")
"""Commands that go on by themselves, unless --force makes them begin again."""


def how_to_go_on(arguments: Sequence[str]) -> str:
    """Return the command line that goes on, or a sentence where several processes must be started."""
    if WORLD_SIZE > 1:
        return "to go on, start all processes again as before, with --resume"
    if arguments[0] in WHOLE_RUNS:
        from dcomp.cli.app import without_force

        again = without_force(arguments)
    else:
        again = [*arguments, *(["--resume"] if "--resume" not in arguments else [])]
    return f"go on with: {shlex.join(['dcomp', *again])}"
