"""encode, decode: checkpoint -> .dcz -> checkpoint, without torch."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from dcomp.cli import json_document
from dcomp.cli.console import observer, print_result
from dcomp.cli.destinations import Destination, destination_of_checkpoint
from dcomp.cli.inputs import input_file
from dcomp.cli.options import Force, Input, Json, MaxMemory, Output, Quiet, Workers, bytes_from_gib, options_of
from dcomp.errors import UsageError
from dcomp.settings import EncodeSettings


@options_of(EncodeSettings)
def encode(
    settings: EncodeSettings,
    input: Input = None,
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
    from dcomp import sources, stages

    if dry_run and output is not None:
        raise UsageError("--dry-run writes nothing: leave -o out")
    destination = None if dry_run else Destination(output, input, ".dcz", force=force, as_json=as_json)
    watcher = observer(quiet)
    with input_file(input) as path:
        checkpoint = sources.load_checkpoint(path, note=watcher.note)
        work = partial(stages.encode, checkpoint, settings=settings, observer=watcher, workers=workers)
        if destination is None:
            _print_size(work, checkpoint.nbytes, as_json=as_json)
            return
        destination.write(work)
        if destination.bytes:
            watcher.note(_summary(checkpoint.nbytes, destination.bytes))
        if as_json:
            json_document.print_document("encode", destination, _sizes(destination.path))


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
    max_memory: MaxMemory = 8,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Restore the checkpoint that was encoded, bit for bit.

    A checkpoint of shards becomes a folder of shards, or one file where the output is named .safetensors. Other files
    in the folder stay.

    Example: [bold]dcomp decode lenet5.dcz -o lenet5.safetensors[/bold]
    """
    from dcomp import sources, stages
    from dcomp.checkpoints import shards

    watcher = observer(quiet)
    with input_file(input) as path:
        decoded = stages.decode(sources.open_container(path, max_memory=bytes_from_gib(max_memory)), tensor)

        def shard_names() -> list[str]:
            return shards.file_names(decoded) if tensor is None and shards.is_sharded(decoded) else []

        destination = destination_of_checkpoint(output, input, ".decoded", shard_names, force=force, as_json=as_json)
        destination.save(decoded, watcher)
        watcher.note(f"{len(decoded.tensors)} tensors, {decoded.nbytes:,} bytes")
        if as_json:
            json_document.print_document(
                "decode", destination, {"tensor_count": len(decoded.tensors), "dense_bytes": decoded.nbytes}
            )


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for command in (encode, decode):
        app.command()(command)
