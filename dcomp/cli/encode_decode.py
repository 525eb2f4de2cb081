"""encode, decode: checkpoint -> .dcz -> checkpoint, without torch."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from dcomp.cli import json_document
from dcomp.cli.console import observer, print_result
from dcomp.cli.destinations import Destination, FolderContent, destination_of_checkpoint
from dcomp.cli.inputs import PIPE, input_checkpoint, input_file
from dcomp.cli.options import Force, Input, Json, Key, MaxMemory, Output, Quiet, Workers, bytes_from_gib, options_of
from dcomp.cli.output_names import CHECKPOINT_SUFFIXES
from dcomp.errors import UsageError
from dcomp.progress.observer import Observer
from dcomp.settings import EncodeSettings

if TYPE_CHECKING:
    from dcomp.checkpoints.checkpoint import Checkpoint


@options_of(EncodeSettings)
def encode(
    settings: EncodeSettings,
    input: Input = None,
    key: Key = None,
    output: Output = None,
    workers: Workers = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", metavar="", help="Print the size and write nothing.")] = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a checkpoint losslessly as a .dcz file, the smaller the more zeros and shared values it has.

    Example: [bold]dcomp encode lenet5.quantized.safetensors[/bold]
    """
    from dcomp import stages

    if dry_run and output is not None:
        raise UsageError("--dry-run writes nothing: leave -o out")
    destination = None if dry_run else Destination(output, input, ".dcz", force=force, as_json=as_json)
    watcher = observer(quiet)
    with input_checkpoint(input, key, watcher) as checkpoint:
        work = partial(stages.encode, checkpoint, settings=settings, observer=watcher, workers=workers)
        if destination is None:
            _print_size(work, checkpoint.nbytes, as_json=as_json)
            return
        destination.write(work)
        if destination.bytes:
            watcher.note(_summary(checkpoint.nbytes, destination.bytes))
        if input is not None and input.is_dir():
            _note_files_left_out(input, watcher)
        if as_json:
            json_document.print_document("encode", destination, _sizes(destination.path))


def _note_files_left_out(folder: Path, watcher: Observer) -> None:
    """Note which files of a folder are not in the container, and how they come back."""
    from dcomp.checkpoints import folders, layers

    if names := folders.files_left_out(folder):
        watcher.note(f"not in the container: {layers.listed(names)}; dcomp decode --like {folder} copies them")


def _print_size(write: Callable[[BinaryIO], object], dense_bytes: int, *, as_json: bool) -> None:
    """Print the size of what is written, and write nothing."""
    from dcomp.system.files import Counted

    counted = Counted()
    write(counted)
    if as_json:
        sizes = {"bytes": counted.nbytes, "dense_bytes": dense_bytes, "ratio": dense_bytes / counted.nbytes}
        json_document.print_document("encode", None, sizes)
    else:
        print_result(_summary(dense_bytes, counted.nbytes))


def _sizes(container: Path) -> dict[str, Any]:
    """Return the dense bytes and the ratio of a container, and the bytes and encoding of each tensor."""
    from dcomp.container.reader import Container
    from dcomp.reporting.listing import list_container

    listing = list_container(Container.open(container))
    tensors = [asdict(line) for line in listing.tensors]
    return {"dense_bytes": listing.dense_bytes, "ratio": listing.ratio, "tensors": tensors}


def _summary(dense_bytes: int, file_bytes: int) -> str:
    return f"{dense_bytes:,} bytes of tensors in {file_bytes:,}: {dense_bytes / file_bytes:.2f}x smaller"


def decode(
    input: Input = None,
    output: Output = None,
    tensor: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Decode only tensors whose names contain a match.")
    ] = None,
    like: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a folder, with the files that DIR has beside its weights.")
    ] = None,
    max_memory: MaxMemory = 8,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Restore the checkpoint that was encoded, bit for bit.

    The name of the output says the format: .pth, .pt and .bin are files of torch, .npz is numpy's, all else is a
    safetensors file. The checkpoint of a folder becomes a folder again, where the output has no such name. Other files
    in the folder stay.

    Example: [bold]dcomp decode lenet5.dcz -o lenet5.safetensors[/bold]
    """
    from dcomp import sources, stages

    _check_like(like, output, tensor)
    watcher = observer(quiet)
    with input_file(input) as path:
        decoded = stages.decode(sources.open_container(path, max_memory=bytes_from_gib(max_memory)), tensor)
        destination = destination_of_checkpoint(
            output,
            input,
            ".decoded",
            lambda: _folder_content(decoded, like, tensor, watcher),
            force=force,
            as_json=as_json,
        )
        destination.save(decoded, watcher)
        watcher.note(f"{len(decoded.tensors)} tensors, {decoded.nbytes:,} bytes")
        if as_json:
            json_document.print_document(
                "decode", destination, {"tensor_count": len(decoded.tensors), "dense_bytes": decoded.nbytes}
            )


def _check_like(like: Path | None, output: Path | None, tensor: str | None) -> None:
    """Raise UsageError for a folder to imitate that is none, or where no folder is written."""
    if like is None:
        return
    if not like.is_dir():
        raise UsageError(f"--like {like} is no folder: name the folder whose files go beside the weights")
    if tensor is not None or output == PIPE or (output is not None and output.suffix.lower() in CHECKPOINT_SUFFIXES):
        raise UsageError("--like writes a folder: leave --tensor out, and name a folder with -o")


def _folder_content(
    decoded: "Checkpoint", like: Path | None, tensor: str | None, watcher: Observer
) -> FolderContent | None:
    """Return what goes to a folder; None for a checkpoint that goes to a file."""
    from dcomp.checkpoints import folders

    if tensor is not None or (like is None and not folders.is_of_folder(decoded)):
        return None
    if like is not None and (links := folders.links_out(like)):
        watcher.note(links)
    return FolderContent(folders.weight_names(decoded), folders.files_beside(like) if like is not None else [])


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for command in (encode, decode):
        app.command()(command)
