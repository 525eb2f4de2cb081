"""encode, decode: checkpoint <-> .dcz, without torch."""

from typing import Annotated

import typer

from dcomp.cli.console import observer
from dcomp.cli.files import Destination, opened
from dcomp.cli.options import Force, Input, MaxMemory, Output, Quiet


def encode(input: Input = None, output: Output = None, force: Force = False, quiet: Quiet = False) -> None:
    """Write a checkpoint as a .dcz file, losslessly, in as few bytes as its zeros and shared values allow.

    Example: [bold]dcomp encode lenet5.quantized.safetensors[/bold]
    """
    from dcomp import sources, stages

    destination = Destination(output, input, ".dcz", force=force)
    with opened(input) as path:
        checkpoint = sources.load_checkpoint(path)
        destination.write(lambda file: stages.encode(checkpoint, file))
        if destination.bytes:
            ratio = f"{checkpoint.nbytes / destination.bytes:.2f}x smaller"
            observer(quiet).note(f"{checkpoint.nbytes:,} bytes of tensors in {destination.bytes:,}: {ratio}")


def decode(
    input: Input = None,
    output: Output = None,
    tensor: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Decode only the tensors whose names it finds.")
    ] = None,
    max_memory: MaxMemory = 8,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Restore the checkpoint that was encoded, bit for bit.

    Example: [bold]dcomp decode lenet5.dcz -o lenet5.safetensors[/bold]
    """
    from dcomp import checkpoint, stages
    from dcomp.container.reader import Container

    destination = Destination(output, input, ".decoded.safetensors", force=force)
    with opened(input) as path:
        decoded = stages.decode(Container.open(path), tensor, max_memory=int(max_memory * 2**30))
        destination.write(lambda file: checkpoint.save(decoded, file))
        observer(quiet).note(f"{len(decoded.tensors)} tensors, {decoded.nbytes:,} bytes")


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for command in (encode, decode):
        app.command()(command)
