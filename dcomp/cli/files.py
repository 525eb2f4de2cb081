"""Inputs and outputs of a command: files, pipes, and the names that outputs get by themselves."""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dcomp.cli.console import say
from dcomp.errors import OutputError, UsageError
from dcomp.files import INDEX_SUFFIX, check_folder, check_replaceable, index_in, replacing, replacing_folder
from dcomp.observer import Observer
from dcomp.processes import FIRST
from dcomp.resumption import StateFile

PIPE = Path("-")
STAGE_SUFFIXES = (".pruned", ".quantized", ".decoded")


@contextmanager
def opened(source: Path | None) -> Iterator[Path]:
    """A file to read: the one named, or standard input in a temporary file.

    Raises:
        UsageError: nothing was named and standard input is a terminal.
    """
    if not _is_pipe(source):
        assert source is not None
        yield index_in(source) if source.is_dir() else source
        return
    if sys.stdin.isatty():
        raise UsageError("no input: name a file, or pipe one in")
    with tempfile.NamedTemporaryFile(prefix="dcomp-") as spooled:
        shutil.copyfileobj(sys.stdin.buffer, spooled)
        spooled.flush()
        if spooled.tell() == 0:
            raise UsageError("standard input is empty: the command before in the pipe wrote nothing")
        yield Path(spooled.name)


class Destination:
    """Where a command's output goes; made, and so checked, before the work begins."""

    def __init__(
        self, output: Path | None, source: Path | None, suffix: str, *, force: bool, as_json: bool = False
    ) -> None:
        """Choose the output.

        Args:
            output: what the user asked for; `-` is standard output, None leaves the choice here: standard output for
                standard input, a sibling for a file.
            source: the input.
            suffix: of the sibling, like `.pruned.safetensors`.
            force: whether an existing file may be replaced.
            as_json: whether standard output is for a JSON document, which has the path.

        Raises:
            UsageError: the input is a folder, or the output and the document would both go to standard output.
            OutputError: the file exists and may not be replaced, or binary would go to a terminal.
        """
        if output is None:
            output = PIPE if _is_pipe(source) else _sibling(source, suffix)
        self._path = output
        self._force = force
        self._as_json = as_json
        if as_json and output == PIPE:
            raise UsageError("--json prints on standard output, where the result would go: name a file with -o")
        if not FIRST:  # who writes nothing
            return
        if output != PIPE:
            check_replaceable(output, force=force)
            if source is not None and not _is_pipe(source) and output.exists() and output.samefile(source):
                raise OutputError(f"{output} is the input; name another output with -o")
        elif sys.stdout.isatty():
            raise OutputError("the output is binary and would go to the terminal; name a file with -o, or pipe it on")

    def write(self, write: Callable[[BinaryIO], object]) -> None:
        """Write the output, whole or not at all; a file's path is then the last line on standard output."""
        if not FIRST:
            return
        if self._path == PIPE:
            write(sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return
        with replacing(self._path, force=self._force) as file:
            write(file)
        if not self._as_json:
            say(str(self._path))

    def state(self, *, resume: bool, save_every: float) -> StateFile | None:
        """Where the state of a stage that trains is kept: beside the output, and nowhere for standard output.

        Raises:
            UsageError: the state to be taken up is not there.
            OutputError: a stopped run's state would be replaced.
        """
        if self._path == PIPE:
            if resume:
                raise UsageError("--resume needs an output file, beside which the state is; name it with -o")
            return None
        state = StateFile.beside(self._path, resume=resume, every=save_every)
        if FIRST:
            state.check(force=self._force)
        return state

    @property
    def path(self) -> Path:
        """The file, or `-` for standard output."""
        return self._path

    @property
    def bytes(self) -> int | None:
        """Size of the file written; None for standard output."""
        return None if self._path == PIPE else self._path.stat().st_size


class FolderDestination:
    """Where shards go; made, and so checked, before the work begins."""

    def __init__(
        self, output: Path | None, source: Path | None, suffix: str, *, force: bool, as_json: bool = False
    ) -> None:
        """Choose the folder: the one named, else a sibling of the input with that suffix.

        Raises:
            UsageError: none was named, and the input is standard input.
            OutputError: it exists and may not be replaced.
        """
        if output is None and _is_pipe(source):
            raise UsageError("the shards need a folder; name one with -o, or -o - for one file on standard output")
        self._path = output or _sibling(source, suffix)
        self._force = force
        self._as_json = as_json
        check_folder(self._path, force=force)

    def write(self, write: Callable[[Path], object]) -> None:
        """Fill the folder, whole or not at all; its path is then the last line on standard output."""
        with replacing_folder(self._path, force=self._force) as folder:
            write(folder)
        if not self._as_json:
            say(str(self._path))

    @property
    def path(self) -> Path:
        """The folder."""
        return self._path


def write_beside(path: Path, content: bytes, watcher: Observer, *, force: bool) -> None:
    """Write a file that is not the command's result, and say so."""
    with replacing(path, force=force) as file:
        file.write(content)
    watcher.note(f"{path} is written")


def _is_pipe(source: Path | None) -> bool:
    return source is None or source == PIPE


def _sibling(source: Path | None, suffix: str) -> Path:
    assert source is not None
    if source.is_dir():
        source = index_in(source)
    if source.name.endswith(INDEX_SUFFIX):
        return source.with_name(source.name.removesuffix(INDEX_SUFFIX) + suffix)
    stem = source.with_suffix("")
    if stem.suffix in STAGE_SUFFIXES:
        stem = stem.with_suffix("")
    return stem.with_name(stem.name + suffix)
