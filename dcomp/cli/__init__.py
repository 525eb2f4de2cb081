"""The command line: parse, call one stage, print. `main` is the `dcomp` program."""

import os
import re
import sys
from collections.abc import Sequence

from dcomp.cli import stopping, streams
from dcomp.cli.restarting import how_to_continue
from dcomp.cli.stopping import INTERRUPTION
from dcomp.errors import INTERRUPTED, DataError, DcompError, OutputError, StoppedError
from dcomp.reporting.text import printable
from dcomp.system.cores import wait_passively
from dcomp.system.ranks import IS_FIRST, RANK

LINE_BREAK = re.compile(r"\n(?! )")
"""A line break in a name; the lines of a list of mistakes are indented."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0, 1 for what is wrong, 2 for wrong usage, 3 for a missed gate; errors are one line.

    With `DCOMP_DEBUG` set, errors show their traceback.
    """
    try:
        streams.prepare()
    except OutputError as error:
        sys.exit(f"error: {error}")
    stopping.listen()
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    wait_passively()
    try:
        return _invoke(arguments)
    except BrokenPipeError:  # the reader of the output has stopped
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        return 1
    except KeyboardInterrupt:
        print(INTERRUPTION, file=sys.stderr)
        return INTERRUPTED
    except StoppedError as stopped:
        if IS_FIRST:
            _print_message(f"{stopped}; {how_to_continue(arguments)}")
        return stopped.exit_code
    except Exception as error:
        if os.environ.get("DCOMP_DEBUG"):
            raise
        return _report_error(error)


def _invoke(arguments: Sequence[str]) -> int:
    from dcomp.cli.app import command
    from dcomp.cli.console import cleared, legible_help

    with cleared(), legible_help():
        result = command().main(list(arguments), prog_name="dcomp", standalone_mode=False)
    sys.stdout.flush()
    if result == INTERRUPTED:  # some parsers turn Ctrl-C into this code
        raise KeyboardInterrupt
    return result if isinstance(result, int) else 0


def _report_error(error: Exception) -> int:
    """Print an error in one line and return its exit code; of several processes, the first speaks for all."""
    message, code = _explain(error)
    if message and (IS_FIRST or _is_of_one_process(error)):  # no message: the help is printed already
        _print_message(f"error: {message}" if IS_FIRST else f"error: process {RANK}: {message}")
    return code


def _print_message(text: str) -> None:
    """Print a message on standard error, without control characters, which a name in it may hold."""
    print(printable(LINE_BREAK.sub("\N{REPLACEMENT CHARACTER}", text), lines=True), file=sys.stderr)


def _is_of_one_process(error: Exception) -> bool:
    """Return whether an error may be that of one process alone, like an unreadable photo or too little memory."""
    return isinstance(error, DataError) or not (isinstance(error, DcompError) or hasattr(error, "format_message"))


def _explain(error: Exception) -> tuple[str, int]:
    """Return the message and the exit code of an error."""
    if isinstance(error, DcompError):
        return str(error), error.exit_code
    if hasattr(error, "format_message"):  # the parser's usage errors, whichever library Typer takes them from
        context, message = getattr(error, "ctx", None), error.format_message().rstrip(".")
        message = message.replace("Value error, ", "").replace(": Input should be ", ": input should be ")
        return f"{message} (see {context.command_path} --help)" if message and context else message, 2
    if isinstance(error, OSError):
        return f"{error.filename or 'input or output'}: {error.strerror or error}", 1
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object!r} holds {error.object[error.start]!r}, which is no character: use another name", 1
    if isinstance(error, MemoryError):
        return "not enough memory", 1
    return f"{type(error).__name__}: {error} (this is a defect; DCOMP_DEBUG=1 shows where)", 1
