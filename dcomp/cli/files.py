"""Inputs and outputs of a command: files, pipes, and the names that outputs get by themselves."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from dcomp.cli.console import say
from dcomp.cli.inputs import PIPE, check_not_input, check_readable, is_pipe
from dcomp.errors import CheckpointError, DcompError, OutputError, UsageError
from dcomp.progress.observer import Observer
from dcomp.progress.resumption import StateFile
from dcomp.system import locks
from dcomp.system.files import (
    INDEX_SUFFIX,
    check_folder,
    check_regular,
    check_replaceable,
    index_in,
    replacing,
    replacing_files,
)
from dcomp.system.ranks import IS_FIRST
from dcomp.system.temporary import part, writing_temporary_files

if TYPE_CHECKING:
    from dcomp.checkpoints.checkpoint import Checkpoint

STAGE_SUFFIXES = (".pruned", ".quantized", ".decoded")
CONTAINER_SUFFIX = ".dcz"
COMMANDS = {"": "train", ".pruned": "prune", ".quantized": "quantize", ".decoded": "decode", CONTAINER_SUFFIX: "encode"}
"""The command whose outputs have a suffix."""

STANDARD_INPUT = "standard input"
PIECE = 1 << 20
SILENT = Observer()

Others = Iterable[Path | None]

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
"""Names of torch's files, which no command writes."""


@contextmanager
def opened(source: Path | None) -> Iterator[Path]:
    """A file to read: the one named, or a temporary one with what comes from standard input or another pipe.

    Raises:
        UsageError: nothing was named and standard input is a terminal, or it is empty.
    """
    if not is_pipe(source):
        assert source is not None
        if source.is_dir():
            yield index_in(source)
            return
        if not (source.is_fifo() or source.is_socket()):
            check_regular(source)
            yield source
            return
    name = STANDARD_INPUT if is_pipe(source) else str(source)
    if is_pipe(source) and sys.stdin.isatty():
        raise UsageError("no input: name a file, or pipe one in")
    with ExitStack() as stack:
        with writing_temporary_files():
            spooled = stack.enter_context(part(Path(tempfile.gettempdir())))
        if not _spool(source, spooled, name):
            raise UsageError(f"{name} is empty: name a file, or see what the command before in the pipe says")
        try:
            yield spooled
        except DcompError as error:
            raise type(error)(str(error).replace(str(spooled), name)) from error


def _spool(source: Path | None, target: Path, name: str) -> int:
    """Write what comes from a pipe to a file; how many bytes there were."""
    try:
        stream = sys.stdin.buffer if is_pipe(source) else source.open("rb")  # type: ignore[union-attr]  # a pipe if None
    except OSError as error:
        raise CheckpointError(f"cannot read {name}: {error.strerror}") from error
    with writing_temporary_files(), target.open("wb") as file:
        for piece in iter(partial(_piece, stream, name), b""):
            file.write(piece)
        return file.tell()


def _piece(stream: BinaryIO, name: str) -> bytes:
    try:
        return stream.read(PIECE)
    except OSError as error:
        raise CheckpointError(f"cannot read {name}: {error.strerror}") from error


class Destination:
    """Where a command's output goes; made, and so checked, before the work begins."""

    def __init__(
        self,
        output: Path | None,
        source: Path | None,
        suffix: str,
        *,
        force: bool,
        as_json: bool = False,
        others: Others = (),
    ) -> None:
        """Choose the output.

        Args:
            output: what the user asked for; `-` is standard output, None leaves the choice here: standard output for
                standard input, a sibling for a file or folder.
            source: the input.
            suffix: of the sibling, like `.pruned.safetensors`.
            force: whether an existing file may be replaced.
            as_json: whether standard output is for a JSON document, which has the path.
            others: files that are read as well, where they are named.

        Raises:
            UsageError: the output has the name of another format, or it and the document would both go to standard
                output.
            OutputError: the file exists and may not be replaced, is an input, or binary would go to a terminal.
        """
        if output is None:
            output = PIPE if is_pipe(source) else _sibling(source, suffix)
        self._path = output
        self._command = COMMANDS[suffix.removesuffix(".safetensors")]
        self._force = force
        self._as_json = as_json
        if as_json and output == PIPE:
            raise UsageError("--json prints on standard output, where the result would go: name a file with -o")
        self._locks = ExitStack()
        if IS_FIRST:
            self._check([source or PIPE, *filter(None, others)])

    def _check(self, sources: list[Path]) -> None:
        for source in sources:
            check_readable(source)
        check_not_input(self._path, sources)
        _check_name(self._path, self._command)
        if self._path != PIPE:
            check_replaceable(self._path, force=self._force)
        elif sys.stdout.isatty():
            raise OutputError("the output is binary and would go to the terminal; name a file with -o, or pipe it on")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let others train to the same output."""
        self._locks.close()

    def write(self, write: Callable[[BinaryIO], object]) -> None:
        """Write the output, whole or not at all; a file's path is then the last line on standard output."""
        if not IS_FIRST:
            return
        if self._path == PIPE:
            write(sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return
        with replacing(self._path, force=self._force) as file:
            write(file)
        if not self._as_json:
            say_path(self._path)

    def save(self, checkpoint: "Checkpoint", watcher: Observer = SILENT) -> None:
        """Write a checkpoint."""
        from dcomp import stages

        self.write(lambda file: stages.save(checkpoint, file, watcher))

    def state(self, *, resume: bool, save_every: float) -> StateFile | None:
        """Where the state of a stage that trains is kept: beside the output, and nowhere for standard output.

        Until the destination is left, no other process trains to the same output.

        Raises:
            UsageError: the state to be taken up is not there.
            OutputError: a stopped run's state would be replaced, or another process trains to the same output.
        """
        if self._path == PIPE:
            if resume:
                raise UsageError("--resume needs an output file, beside which the state is; name it with -o")
            return None
        state = StateFile.beside(self._path, resume=resume, every=save_every)
        if IS_FIRST:
            lock = self._path.with_name(f".{self._path.name}.lock")
            self._locks.enter_context(locks.exclusive(lock, str(self._path)))
            state.prepare(force=self._force)
        return state

    @property
    def path(self) -> Path:
        """The file, or `-` for standard output."""
        return self._path

    @property
    def bytes(self) -> int | None:
        """Size of the file written; None for standard output."""
        return None if self._path == PIPE else self._path.stat().st_size


class FolderDestination(Destination):
    """Where shards go; made, and so checked, before the work begins."""

    def __init__(
        self,
        output: Path | None,
        source: Path | None,
        suffix: str,
        names: list[str],
        *,
        force: bool,
        as_json: bool = False,
        others: Others = (),
    ) -> None:
        """Choose the folder: the one named, else a sibling of the input with that suffix.

        Args are those of `Destination`, and `names` those of the files that it will hold.

        Raises:
            UsageError: none was named, and the input is standard input.
            OutputError: it exists and may not be written to, or one of the files is the input.
        """
        if output is None and is_pipe(source):
            raise UsageError("the shards need a folder; name one with -o, or -o - for one file on standard output")
        self._names = names
        super().__init__(output, source, suffix, force=force, as_json=as_json, others=others)

    @property
    def bytes(self) -> int:
        """Size of the files written, together; not of others in their folder."""
        return sum((self._path / name).stat().st_size for name in self._names)

    def _check(self, sources: list[Path]) -> None:
        for source in sources:
            check_readable(source)
        for name in self._names:
            check_not_input(self._path / name, sources)
        _check_name(self._path, self._command)
        check_folder(self._path, force=self._force)

    def save(self, checkpoint: "Checkpoint", watcher: Observer = SILENT) -> None:
        """Write a checkpoint as shards, whole or not at all; the folder is then the last line on standard output."""
        from dcomp import stages
        from dcomp.checkpoints import shards

        if not IS_FIRST:
            return
        with replacing_files(self._path, force=self._force) as folder:
            stages.save_shards(shards.reindexed(checkpoint), folder, watcher)
        if not self._as_json:
            say_path(self._path)


def destination_of_checkpoint(
    output: Path | None,
    source: Path | None,
    suffix: str,
    shard_names: Callable[[], list[str]] | None = None,
    *,
    force: bool,
    as_json: bool = False,
    others: Others = (),
) -> Destination:
    """Where a checkpoint goes: shards to a folder of shards, unless the output is one .safetensors file or `-`.

    Args are those of `Destination`, with a suffix like `.pruned`. `shard_names` gives the files of a sharded
    checkpoint, and none of another; without it those of the input count.

    Raises:
        UsageError, OutputError: as `Destination` and `FolderDestination`.
    """
    if output != PIPE and (output is None or output.suffix != ".safetensors"):
        names = shard_names() if shard_names is not None else _shard_names(source)
        if names:
            return FolderDestination(output, source, suffix, names, force=force, as_json=as_json, others=others)
    return Destination(output, source, f"{suffix}.safetensors", force=force, as_json=as_json, others=others)


def _shard_names(source: Path | None) -> list[str]:
    """The names of the files of a sharded input; none if it is another one."""
    if source is None or not (source.is_dir() or source.name.endswith(INDEX_SUFFIX)):
        return []
    from dcomp.sources import files_of

    return [file.name for file in files_of(source)]


def _check_name(output: Path, command: str) -> None:
    """Refuse a name that promises another format than that of the output.

    Raises:
        UsageError: it does.
    """
    written, other = CONTAINER_SUFFIX, ".safetensors"
    hint = "dcomp decode writes .safetensors files"
    if command != "encode":
        written, other, hint = other, written, "dcomp encode writes .dcz files"
    suffix = output.suffix.lower()
    if suffix in (other, *TORCH_SUFFIXES):
        more = f"; {hint}" if suffix == other else ""
        raise UsageError(f"{command} writes {written} files: name it {output.with_suffix(written)} (-o){more}")


def write_beside(path: Path, content: bytes, watcher: Observer, *, force: bool) -> None:
    """Write a file that is not the command's result, and say so."""
    with replacing(path, force=force) as file:
        file.write(content)
    watcher.note(f"{path} is written")


def say_path(path: Path) -> None:
    """Print the path of a result, as no command takes it for an option: for a person, or in its bytes on the disk."""
    told = f"./{path}" if str(path).startswith("-") else str(path)
    if sys.stdout.isatty():
        say(told)
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(told) + b"\n")


def _sibling(source: Path | None, suffix: str) -> Path:
    """A path beside the file or folder that was named.

    Raises:
        UsageError: the folder has no index of shards, or no name.
    """
    assert source is not None
    if source.is_dir():
        index_in(source)  # it holds a checkpoint
        folder = source if source.name not in ("", "..") else source.resolve()
        if not folder.name:
            raise UsageError(f"{source} has no name that an output could have; name one with -o")
        return folder.with_name(_without_stage(folder.name) + suffix)
    if source.name.endswith(INDEX_SUFFIX):
        return source.with_name(source.name.removesuffix(INDEX_SUFFIX) + suffix)
    stem = source.with_suffix("")
    return stem.with_name(_without_stage(stem.name) + suffix)


def _without_stage(name: str) -> str:
    return next((name.removesuffix(stage) for stage in STAGE_SUFFIXES if name.endswith(stage)), name)
