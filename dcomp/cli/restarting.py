"""The command line that continues a stopped command."""

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from dcomp.system.ranks import WORLD_SIZE

WHOLE_RUNS = ("run", "sweep", "demo")
"""Commands that continue by themselves, unless --force makes them start again."""


def how_to_continue(arguments: Sequence[str]) -> str:
    """Return the command line that continues, or a sentence where several processes must be started."""
    if WORLD_SIZE > 1:
        return "to continue, start all processes again as before, with --resume"
    if arguments[0] in WHOLE_RUNS:
        again = [arguments[0], *_words_without_force(arguments)]
    else:
        again = [*arguments, *(["--resume"] if "--resume" not in arguments else [])]
    return f"continue with: {shlex.join(['dcomp', *again])}"


def _words_without_force(arguments: Sequence[str]) -> list[str]:
    """Return the arguments and options of a whole run as they were parsed, without --force."""
    import typer.main

    from dcomp.cli.app import app

    command: Any = typer.main.get_command(app)
    command = command.commands[arguments[0]]
    context = command.make_context(arguments[0], list(arguments[1:]), resilient_parsing=True)
    operands, options = list[str](), list[str]()
    for parameter in command.params:
        source = context.get_parameter_source(parameter.name)
        if parameter.name == "force" or source is None or source.name != "COMMANDLINE":
            continue
        words = operands if parameter.param_type_name == "argument" else options
        words += _words_of(parameter, context.params[parameter.name])
    if any(operand.startswith("-") for operand in operands):
        return [*options, "--", *operands]
    return [*operands, *options]


def _words_of(parameter: Any, parsed: Any) -> Iterator[str]:
    """Yield the words of a command line that give a parameter its parsed value, or values."""
    for value in parsed if parameter.multiple else [parsed]:
        if parameter.param_type_name == "argument":
            yield str(value)
        elif parameter.is_flag:
            yield (parameter.opts if value else parameter.secondary_opts)[-1]
        else:
            yield from (parameter.opts[-1], str(value))
