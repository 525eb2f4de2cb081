"""inspect, verify, bench: what a container holds, whether it is intact, and how it compares with zstd."""

import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dcomp.cli.console import observer, print_result
from dcomp.cli.inputs import input_checkpoint, input_file
from dcomp.cli.options import Input, Json, Key, MaxMemory, Quiet, Workers, bytes_from_gib
from dcomp.errors import UsageError


def inspect(
    input: Input = None,
    key: Key = None,
    max_memory: MaxMemory = 8,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the tensors and the metadata of a .dcz file, and the encoding and the bytes of each, without decoding.

    For any other checkpoint, list the tensors, their bytes, and how many elements are not zero.

    Example: [bold]dcomp inspect lenet5.dcz[/bold]
    """
    from dcomp import sources
    from dcomp.container.reader import Container
    from dcomp.reporting import render, tables
    from dcomp.reporting.listing import CheckpointListing, ContainerListing, list_checkpoint, list_container

    watcher = observer(quiet)
    listing: ContainerListing | CheckpointListing
    with input_file(input) as path:
        limit = bytes_from_gib(max_memory)
        if sources.is_container(path) and key is None:
            listing = list_container(Container.open(path, max_memory=limit))
            table = render.container_table(listing)
        else:
            checkpoint = sources.load_checkpoint(path, max_memory=limit, key=key, note=watcher.note)
            listing = list_checkpoint(checkpoint)
            table = render.checkpoint_table(listing)
            watcher.note("not compressed; dcomp report says what dcomp encode would make of it")
    if as_json:
        print_result(json.dumps(asdict(listing), indent=2))
    else:
        tables.print_tables(*([render.metadata_table(listing.metadata)] if listing.metadata else []), table)


def verify(
    input: Input = None,
    against: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Checkpoint that must be equal bit for bit.")
    ] = None,
    max_memory: MaxMemory = 8,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Decode a .dcz file in memory and check every checksum; --against compares it with a checkpoint.

    Example: [bold]dcomp verify lenet5.dcz --against lenet5.quantized.safetensors[/bold]
    """
    from dcomp import sources
    from dcomp.container import verification

    limit = bytes_from_gib(max_memory)
    with ExitStack() as stack:
        container = sources.open_container(stack.enter_context(input_file(input)), max_memory=limit)
        other = stack.enter_context(input_file(against)) if against else None
        watcher = observer(quiet)
        expected = sources.load_checkpoint(other, max_memory=limit, note=watcher.note) if other else None
        verification.verify(container, expected, watcher)
    count, nbytes = len(container.names), sum(entry.spec.nbytes for entry in container.directory.entries)
    if as_json:
        print_result(
            json.dumps({"tensor_count": count, "dense_bytes": nbytes, "equal_to": str(against) if against else None})
        )
    else:
        equal = f", equal to {against}" if against else ""
        print_result(f"{input or '-'}: {count} tensors, {nbytes:,} bytes, every checksum right{equal}")


def bench(
    input: Input = None,
    key: Key = None,
    seconds: Annotated[
        float, typer.Option("-t", "--seconds", min=0, metavar="SECONDS", help="Least time for each speed.")
    ] = 2,
    levels: Annotated[str, typer.Option(help="Levels of zstd to compare with.", metavar="N,...")] = "3,19",
    workers: Workers = 1,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare the size and speed of this codec with raw safetensors and zstd on a checkpoint.

    Speeds are in MB/s, 10^6 dense bytes a second, from arrays in memory to bytes in memory and back; the fastest run
    counts. All codecs use one core; with --workers this codec compresses on more.

    Example: [bold]dcomp bench lenet5.quantized.safetensors[/bold]
    """
    from dcomp.reporting import benchmark, render, tables

    zstd_levels = _zstd_levels(levels)
    watcher = observer(quiet)
    with input_checkpoint(input, key, watcher) as checkpoint:
        rows = benchmark.measure_codecs(checkpoint, zstd_levels, seconds, watcher.note, workers=workers)
    if as_json:
        print_result(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        tables.print_tables(render.benchmark_table(rows))


def _zstd_levels(text: str) -> list[int]:
    """Return the levels of zstd in a text like 3,19.

    Raises:
        UsageError: no numbers, or no levels of zstd.
    """
    from dcomp.reporting.benchmark import HIGHEST_LEVEL, LOWEST_LEVEL

    try:
        levels = [int(level) for level in text.split(",") if level]
    except ValueError as error:
        raise UsageError(f"--levels {text!r} is not a list of numbers like 3,19") from error
    if not all(LOWEST_LEVEL <= level <= HIGHEST_LEVEL for level in levels):
        raise UsageError(f"--levels {text}: zstd has the levels {LOWEST_LEVEL} to {HIGHEST_LEVEL} only")
    return levels


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for command in (inspect, verify, bench):
        app.command()(command)
