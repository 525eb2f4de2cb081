"""What a command reads: pipes, folders in the home folder, and files that none of its outputs may replace."""

import functools
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from dcomp.errors import CheckpointError, OutputError, UsageError, reading
from dcomp.system.files import INDEX_SUFFIX, index_in

PIPE = Path("-")

READ = {"input", "start", "against", "recipe", "distill", "rewind", "plan"}
"""Parameters that name files to read."""

FOLDERS = {"data_dir", "cache", "tensorboard", "out"}
"""Parameters that name folders; all other paths name files to write."""

WRITTEN_BY = {"sensitivity": {"plan"}}
"""Those of a command that name files to write all the same."""

STDIN_DESCRIPTOR, STDOUT_DESCRIPTOR = 0, 1

STANDARD_OUTPUTS = {Path("/dev/stdout"), Path("/dev/fd/1"), Path("/proc/self/fd/1")}


def is_pipe(source: Path | None) -> bool:
    """Whether an input is standard input."""
    return source is None or source == PIPE


def with_paths(command: Callable[..., Any]) -> Callable[..., Any]:
    """Have a command refuse to write to a file that it reads, or twice to one."""
    read = READ - WRITTEN_BY.get(command.__name__, set())
    not_written = read | FOLDERS

    @functools.wraps(command)
    def checked(**given: Any) -> Any:
        if given.get("output") in STANDARD_OUTPUTS:
            given["output"] = PIPE
        paths = {name: value for name, value in given.items() if isinstance(value, Path)}
        sources = [path for name, path in paths.items() if name in read]
        if given.get("input", PIPE) is None:
            sources.append(PIPE)
        if sources.count(PIPE) > 1:
            raise UsageError("standard input is named for two inputs; name a file for one of them")
        for path in sources:
            _check_no_device(path)
        written: list[Path] = []
        for name, path in paths.items():
            if name not in not_written:
                check_not_input(path, sources)
                _check_distinct(path, written)
                written.append(path)
        return command(**given)

    return checked


def _check_no_device(path: Path) -> None:
    """Raise CheckpointError for devices: some never end."""
    if path.is_char_device() or path.is_block_device():
        raise CheckpointError(f"{path} is a device; name a file, or pipe one in")


def check_readable(source: Path) -> None:
    """Raise CheckpointError for an input that is not there, which is told before what is wrong with an output."""
    if source == PIPE:
        return
    with reading(source, CheckpointError):
        source.stat()


def check_not_input(output: Path, sources: Iterable[Path]) -> None:
    """Refuse an output, `-` for standard output, that is one of the files which a command reads.

    Raises:
        OutputError: it is one, under whatever name.
        CheckpointError, UsageError: an input is a damaged index of shards, or a folder without one.
    """
    try:
        written = os.fstat(STDOUT_DESCRIPTOR) if output == PIPE else output.stat()
    except (OSError, ValueError):  # not there, or said where it is opened
        return
    if not stat.S_ISREG(written.st_mode):
        return
    for source in sources:
        for file in _files_of(source):
            with suppress(OSError, ValueError):
                if os.path.samestat(os.fstat(STDIN_DESCRIPTOR) if file == PIPE else file.stat(), written):
                    name = "standard output" if output == PIPE else output
                    raise OutputError(f"{name} is the input; name another output")


def _files_of(source: Path) -> list[Path]:
    """The files of an input: one, or an index and its shards."""
    if source.is_dir():
        source = index_in(source)
    if not source.name.endswith(INDEX_SUFFIX) or not source.is_file():
        return [source]
    from dcomp.checkpoints import shards

    return shards.files_of(source)


def _check_distinct(path: Path, others: Iterable[Path]) -> None:
    for other in others:
        if path == other or (path.is_file() and other.is_file() and path.samefile(other)):
            raise OutputError(f"{path} is named for two outputs; name two files")
