"""Paths of a command that exclude each other: no output replaces an input, and no two outputs are one file."""

import functools
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dcomp.cli.inputs import PIPE, check_no_device
from dcomp.errors import OutputError, UsageError

INPUT_PARAMETERS = {"input", "against", "recipe", "distill", "rewind", "mask", "plan"}
"""Parameters that name files to read."""

FOLDER_PARAMETERS = {"data_dir", "cache", "tensorboard", "out", "like"}
"""Parameters that name folders; all other paths name files to write."""

WRITTEN_BY_COMMAND = {"sensitivity": {"plan"}}
"""Exceptions: parameters that name files to write in one command."""

STDIN_DESCRIPTOR, STDOUT_DESCRIPTOR = 0, 1

STANDARD_OUTPUTS = {Path("/dev/stdout"), Path("/dev/fd/1"), Path("/proc/self/fd/1")}


def without_conflicts(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that refuses to write to a file that it reads, or to one file twice."""
    input_names = INPUT_PARAMETERS - WRITTEN_BY_COMMAND.get(command.__name__, set())

    @functools.wraps(command)
    def checked(**arguments: Any) -> Any:
        if arguments.get("output") in STANDARD_OUTPUTS:
            arguments["output"] = PIPE
        paths = {name: value for name, value in arguments.items() if isinstance(value, Path)}
        sources = [path for name, path in paths.items() if name in input_names]
        if "input" in arguments and arguments["input"] is None:
            sources.append(PIPE)
        _check_sources(sources)
        _check_distinct([path for name, path in paths.items() if name not in input_names | FOLDER_PARAMETERS], sources)
        return command(**arguments)

    return checked


def _check_sources(sources: Sequence[Path]) -> None:
    """Raise UsageError if two inputs are standard input, and CheckpointError for a device."""
    if sources.count(PIPE) > 1:
        raise UsageError("standard input is named for two inputs; name a file for one of them")
    for source in sources:
        check_no_device(source)


def _check_distinct(outputs: Sequence[Path], sources: Sequence[Path]) -> None:
    """Raise OutputError for an output that is an input, or another output."""
    for place, output in enumerate(outputs):
        check_not_input(output, sources)
        if any(_is_same_file(output, earlier) for earlier in outputs[:place]):
            raise OutputError(f"{output} is named for two outputs; name two files")


def _is_same_file(first: Path, second: Path) -> bool:
    """Return whether two paths are one, or lead to one file."""
    return first == second or (first.is_file() and second.is_file() and first.samefile(second))


def check_not_input(output: Path, sources: Iterable[Path]) -> None:
    """Refuse an output, `-` for standard output, that is one of the files which a command reads.

    Raises:
        OutputError: it is one, also under another name.
        CheckpointError, UsageError: an input is a damaged index of shards, or a folder without one.
    """
    try:
        written = os.fstat(STDOUT_DESCRIPTOR) if output == PIPE else output.stat()
    except (OSError, ValueError):  # it is missing, or opening it says what is wrong
        return
    if not stat.S_ISREG(written.st_mode):
        return
    from dcomp.sources import files_of

    for file in (file for source in sources for file in files_of(source)):
        with suppress(OSError, ValueError):
            if os.path.samestat(os.fstat(STDIN_DESCRIPTOR) if file == PIPE else file.stat(), written):
                name = "standard output" if output == PIPE else output
                raise OutputError(f"{name} is the input; name another output")
