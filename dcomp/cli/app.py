"""The commands of `dcomp`."""

import functools
import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main

import dcomp
from dcomp.cli import encode_decode, eval_report, guide, inspection, learning, runs, sensitivity, sweep
from dcomp.cli.help_pages import PlainCommand, PlainGroup
from dcomp.cli.options import option_names
from dcomp.cli.path_conflicts import without_conflicts
from dcomp.errors import UsageError
from dcomp.settings.fields import expand_home
from dcomp.system.ranks import PROBLEMS, WORLD_SIZE

DISTRIBUTED_COMMANDS = ("train", "prune", "finetune", "quantize", "eval")
"""The commands that several processes may run as one."""

EPILOG = (
    "Exit codes: 0 done, 1 something is wrong, 2 wrong usage, 3 a gate is missed, 130 and 143 stopped by a signal. "
    "DCOMP_DATA names the folder of data sets; DCOMP_TRUST_CODE=1 runs the code that checkpoints name; DCOMP_DEBUG=1 "
    "shows the traceback of an error."
)

app = typer.Typer(
    cls=PlainGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dcomp {dcomp.__version__}")
        raise typer.Exit


@app.callback()
def dcomp_(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Deep Compression on checkpoint files: prune, share, Huffman-code, and write the real file.

    Start here: [bold]dcomp guide quickstart[/bold]

    Every command reads a checkpoint and writes one, so they compose:

    [bold]dcomp prune A.safetensors --sparsity 0.9 -o - | dcomp quantize --bits 5 | dcomp encode -o A.dcz[/bold]
    """
    if PROBLEMS:
        raise UsageError(PROBLEMS[0])
    if WORLD_SIZE > 1 and context.invoked_subcommand not in DISTRIBUTED_COMMANDS:
        raise UsageError(
            f"{context.invoked_subcommand} is for one process; torchrun starts {', '.join(DISTRIBUTED_COMMANDS)}"
        )


def _unwrapped(text: str) -> str:
    """Return paragraphs without line breaks, which the terminal then breaks."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in inspect.cleandoc(text).split("\n\n"))


def _with_checked_values(command: Callable[..., Any]) -> Callable[..., Any]:
    """Have a command expand `~` in paths, where a shell has not, and refuse numbers that are not finite."""
    names = option_names(command)

    @functools.wraps(command)
    def checked(**values: Any) -> Any:
        return command(**{name: _checked(names[name], value) for name, value in values.items()})

    return checked


def _checked(option: str, value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{option}: {value} is not a finite number")
    try:
        return expand_home(value) if isinstance(value, Path) else value
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error


for _module in (learning, encode_decode, eval_report, inspection, sensitivity, runs, sweep, guide):
    _module.register(app)
for _command in app.registered_commands:
    assert _command.callback is not None  # each is a function
    _command.cls = PlainCommand
    _command.callback.__doc__ = _unwrapped(_command.callback.__doc__ or "")
    _command.callback = _with_checked_values(without_conflicts(_command.callback))


def command() -> Any:
    """Return the command that parses the command line."""
    return typer.main.get_command(app)
