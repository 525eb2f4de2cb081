"""Where the output of a command goes: a file, a folder with a checkpoint, or standard output."""

import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from dcomp.cli.console import print_path
from dcomp.cli.inputs import PIPE, check_readable, is_pipe
from dcomp.cli.output_names import (
    CHECKPOINT_SUFFIX,
    CHECKPOINT_SUFFIXES,
    TENSORS_SUFFIXES,
    check_name,
    command_of,
    sibling,
)
from dcomp.cli.path_conflicts import check_not_input
from dcomp.errors import OutputError, UsageError
from dcomp.progress.observer import SILENT, Observer
from dcomp.progress.resumption import StateFile
from dcomp.system import locks
from dcomp.system.files import INDEX_SUFFIXES, check_folder, check_replaceable, replacing, replacing_files
from dcomp.system.ranks import IS_FIRST

if TYPE_CHECKING:
    from dcomp.checkpoints.checkpoint import Checkpoint


OtherInputs = Iterable[Path | None]


@dataclass(frozen=True)
class FolderContent:
    """What goes to a folder: the names of the files with weights, and other files, which are copied."""

    weight_names: list[str]
    copied_files: list[Path]


class Destination:
    """Where the output of a command goes. The constructor checks the output, so construct it before the work begins."""

    def __init__(
        self,
        output: Path | None,
        source: Path | None,
        suffix: str,
        *,
        force: bool,
        as_json: bool = False,
        other_inputs: OtherInputs = (),
    ) -> None:
        """Choose the output.

        Args:
            output: the output that a person names, `-` for standard output. None means standard output where the input
                is standard input, and a sibling of any other input.
            source: the input.
            suffix: suffix of the sibling, like `.pruned.safetensors`.
            force: whether an existing file may be replaced.
            as_json: whether standard output is for a JSON document, which holds the path.
            other_inputs: other files that the command reads, or None.

        Raises:
            UsageError: the output has the name of another format, or it and the document would both go to standard
                output.
            OutputError: the file exists and may not be replaced, is an input, or binary would go to a terminal.
        """
        if output is None:
            output = PIPE if source is None or source == PIPE else sibling(source, suffix)
        self._path = output
        self._command = command_of(suffix)
        self._force = force
        self._as_json = as_json
        if as_json and output == PIPE:
            raise UsageError("--json prints on standard output, where the result would go: name a file with -o")
        self._locks = ExitStack()
        if IS_FIRST:
            self._check([source or PIPE, *filter(None, other_inputs)])

    def _check(self, sources: list[Path]) -> None:
        for source in sources:
            check_readable(source)
        check_not_input(self._path, sources)
        check_name(self._path, self._command)
        if self._path != PIPE:
            check_replaceable(self._path, force=self._force)
        elif sys.stdout.isatty():
            raise OutputError("the output is binary and would go to the terminal; name a file with -o, or pipe it on")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Allow other processes to train to the same output."""
        self._locks.close()

    def write(self, write: Callable[[BinaryIO], object]) -> None:
        """Write the output completely or not at all, and print the path of a file on standard output."""
        if not IS_FIRST:
            return
        if self._path == PIPE:
            write(sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return
        with replacing(self._path, force=self._force) as file:
            write(file)
        if not self._as_json:
            print_path(self._path)

    def save(self, checkpoint: "Checkpoint", watcher: Observer = SILENT) -> None:
        """Write a checkpoint in the format that the name of the output says, and note the metadata that it lacks."""
        from dcomp import outputs

        suffix = self._path.suffix.lower()
        self.write(lambda file: outputs.save(checkpoint, file, watcher, suffix=suffix))
        if suffix in TENSORS_SUFFIXES and checkpoint.metadata:
            watcher.note(
                f"{self._path} holds tensors alone: the metadata ({', '.join(checkpoint.metadata)}) are left out, "
                "which a .safetensors file keeps"
            )

    def state(self, *, resume: bool, save_every: float) -> StateFile | None:
        """Return the file of the state of a stage that trains, beside the output; None for standard output.

        Until the destination is left, no other process trains to the same output.

        Raises:
            UsageError: the state to resume from is missing.
            OutputError: the state of a stopped run would be replaced, or another process trains to the same output.
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
        """Return the file, or `-` for standard output."""
        return self._path

    @property
    def bytes(self) -> int | None:
        """Return the size of the file that was written; None for standard output."""
        return None if self._path == PIPE else self._path.stat().st_size


class FolderDestination(Destination):
    """The folder where a checkpoint goes, and files beside it."""

    def __init__(
        self,
        output: Path | None,
        source: Path | None,
        suffix: str,
        content: FolderContent,
        *,
        force: bool,
        as_json: bool = False,
        other_inputs: OtherInputs = (),
    ) -> None:
        """Choose the folder: the one named, else a sibling of the input with that suffix.

        The arguments are those of `Destination`, and what goes to the folder.

        Raises:
            UsageError: no folder is named, and the input is standard input.
            OutputError: the folder exists and may not be written to, or one of the files is an input.
        """
        if output is None and is_pipe(source):
            raise UsageError(
                "the checkpoint goes to a folder; name one with -o, or -o - for one file on standard output"
            )
        self._content = content
        super().__init__(output, source, suffix, force=force, as_json=as_json, other_inputs=other_inputs)

    @property
    def bytes(self) -> int:
        """Return the size of the weights that were written; other files in the folder do not count."""
        return sum((self._path / name).stat().st_size for name in self._content.weight_names)

    def _check(self, sources: list[Path]) -> None:
        for source in sources:
            check_readable(source)
        for name in self._content.weight_names:
            check_not_input(self._path / name, sources)
        check_name(self._path, self._command)
        check_folder(self._path, force=self._force)

    def save(self, checkpoint: "Checkpoint", watcher: Observer = SILENT) -> None:
        """Write a checkpoint and the files beside it, all or none; print the path of the folder on standard output."""
        from dcomp import outputs

        if not IS_FIRST:
            return
        with replacing_files(self._path, force=self._force) as folder:
            outputs.save_folder(checkpoint, folder, self._content.copied_files, watcher)
        if not self._as_json:
            print_path(self._path)


def destination_of_checkpoint(
    output: Path | None,
    source: Path | None,
    suffix: str,
    content: Callable[[], FolderContent | None] | None = None,
    *,
    force: bool,
    as_json: bool = False,
    other_inputs: OtherInputs = (),
) -> Destination:
    """Return where a checkpoint goes: that of a folder to a folder, unless the output is `-` or named as a file.

    The arguments are those of `Destination`, with a suffix like `.pruned`. `content` returns what goes to a folder, and
    None for a checkpoint that goes to a file; by default, the files of the input are taken.

    Raises:
        UsageError, OutputError: as `Destination` and `FolderDestination`.
    """
    if output != PIPE and (output is None or output.suffix.lower() not in CHECKPOINT_SUFFIXES):
        folder_content = content() if content is not None else _content_of_input(source)
        if folder_content is not None:
            return FolderDestination(
                output, source, suffix, folder_content, force=force, as_json=as_json, other_inputs=other_inputs
            )
    return Destination(
        output, source, suffix + CHECKPOINT_SUFFIX, force=force, as_json=as_json, other_inputs=other_inputs
    )


def _content_of_input(source: Path | None) -> FolderContent | None:
    """Return what a stage writes to a folder for a folder or an index of shards; None for another input."""
    if source is None or not (source.is_dir() or source.name.endswith(INDEX_SUFFIXES)):
        return None
    from dcomp.checkpoints import folders

    return FolderContent(folders.weight_names_of(source), folders.files_beside(source) if source.is_dir() else [])


def write_beside(path: Path, content: bytes, watcher: Observer, *, force: bool) -> None:
    """Write a file that is not the result of the command, and say so in a note."""
    with replacing(path, force=force) as file:
        file.write(content)
    watcher.note(f"{path} is written")
