"""Inputs of a command: a file, a folder with a checkpoint, standard input, or another pipe."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dcomp.errors import CheckpointError, DcompError, UsageError, reading
from dcomp.progress.observer import Observer
from dcomp.system.files import check_regular
from dcomp.system.temporary import part, writing_temporary_files

if TYPE_CHECKING:
    from dcomp.checkpoints.checkpoint import Checkpoint

PIPE = Path("-")

STANDARD_INPUT_NAME = "standard input"

SPOOLED_BYTES = 1 << 20
"""Bytes of a pipe that are copied at a time."""


def is_pipe(source: Path | None) -> bool:
    """Return whether an input is standard input."""
    return source is None or source == PIPE


@contextmanager
def input_file(source: Path | None) -> Iterator[Path]:
    """Yield a file or folder to read: the one named, or a temporary copy of a pipe's content.

    Raises:
        UsageError: nothing was named and standard input is a terminal, or the pipe is empty.
        CheckpointError: the pipe cannot be read.
    """
    if source is None or source == PIPE:
        if sys.stdin.isatty():
            raise UsageError("no input: name a file, or pipe one in")
        with _spooled(source, STANDARD_INPUT_NAME) as path:
            yield path
    elif source.is_fifo() or source.is_socket():
        with _spooled(source, str(source)) as path:
            yield path
    else:
        check_regular(source)
        yield source


@contextmanager
def input_checkpoint(source: Path | None, key: str | None, watcher: Observer) -> Iterator["Checkpoint"]:
    """Yield the checkpoint of an input, whose tensors are read in the block; its notes go to the watcher.

    Args:
        source: the input, or None for standard input.
        key: of the network, where a file of torch holds several.
        watcher: of the command.

    Raises:
        UsageError, CheckpointError, ContainerError: as `input_file` and `sources.load_checkpoint`.
    """
    from dcomp import sources

    name = STANDARD_INPUT_NAME if is_pipe(source) else str(source)
    with input_file(source) as path:  # a copy of a pipe's content has another path
        yield sources.load_checkpoint(path, key=key, note=lambda text: watcher.note(text.replace(str(path), name)))


@contextmanager
def _spooled(source: Path | None, name: str) -> Iterator[Path]:
    """Yield a temporary copy of a pipe's content; errors about the copy name the pipe."""
    with ExitStack() as stack:
        with writing_temporary_files():
            copy = stack.enter_context(part(Path(tempfile.gettempdir())))
        if not _copy(source, copy, name):
            raise UsageError(f"{name} is empty: name a file, or read the message of the command before it")
        try:
            yield copy
        except DcompError as error:
            raise type(error)(str(error).replace(str(copy), name)) from error


def _copy(source: Path | None, target: Path, name: str) -> int:
    """Copy the content of a pipe to a file; return the number of bytes."""
    try:
        stream = sys.stdin.buffer if source is None or source == PIPE else source.open("rb")
    except OSError as error:
        raise CheckpointError(f"cannot read {name}: {error.strerror}") from error
    with writing_temporary_files(), target.open("wb") as file:
        for chunk in iter(partial(_read_chunk, stream, name), b""):
            file.write(chunk)
        return file.tell()


def _read_chunk(stream: BinaryIO, name: str) -> bytes:
    try:
        return stream.read(SPOOLED_BYTES)
    except OSError as error:
        raise CheckpointError(f"cannot read {name}: {error.strerror}") from error


def check_readable(source: Path) -> None:
    """Raise CheckpointError for an input that is missing; this is checked before the output."""
    if source == PIPE:
        return
    with reading(source, CheckpointError):
        source.stat()


def check_no_device(source: Path) -> None:
    """Raise CheckpointError for a device: some never end."""
    if source.is_char_device() or source.is_block_device():
        raise CheckpointError(f"{source} is a device; name a file, or pipe one in")
