"""train, prune, quantize: the commands that may train a network."""

from pathlib import Path
from typing import Annotated

import typer

from dcomp.cli.console import observer
from dcomp.cli.files import Destination, opened
from dcomp.cli.options import Architecture, Force, Input, Output, Quiet, options_of
from dcomp.settings import PruneSettings, QuantizeSettings, TrainSettings


@options_of(TrainSettings, leave_out=("architecture",))
def train(
    settings: TrainSettings,
    architecture: Annotated[str, typer.Argument(help="lenet300, lenet5, or package.module:factory.")],
    resume: Annotated[Path | None, typer.Option(help="Checkpoint to go on from.")] = None,
    output: Output = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Train a network and write its best epoch by validation error.

    Example: [bold]dcomp train lenet5 --data mnist --epochs 20[/bold]
    """
    from dcomp import checkpoint, sources, stages

    name = architecture.rpartition(":")[2]
    destination = Destination(output or Path(f"{name}.safetensors"), None, "", force=force)
    start = sources.load_checkpoint(resume) if resume else None
    trained = stages.train(settings, observer(quiet), resume=start)
    destination.write(lambda file: checkpoint.save(trained, file))


@options_of(PruneSettings)
def prune(
    settings: PruneSettings,
    input: Input = None,
    output: Output = None,
    architecture: Architecture = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Set the least important weights to zero; with --epochs the network retrains meanwhile.

    Example: [bold]dcomp prune lenet5.safetensors --sparsity 0.92 --epochs 16 --data mnist[/bold]
    """
    from dcomp import checkpoint, sources, stages

    destination = Destination(output, input, ".pruned.safetensors", force=force)
    with opened(input) as path:
        pruned = stages.prune(sources.load_checkpoint(path), settings, observer(quiet), architecture=architecture)
        destination.write(lambda file: checkpoint.save(pruned, file))


@options_of(QuantizeSettings)
def quantize(
    settings: QuantizeSettings,
    input: Input = None,
    output: Output = None,
    architecture: Architecture = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Let the kept weights of each layer share 2^bits values; with --epochs those values then train.

    Example: [bold]dcomp quantize lenet5.pruned.safetensors --conv-bits 8 --fc-bits 5[/bold]
    """
    from dcomp import checkpoint, sources, stages

    destination = Destination(output, input, ".quantized.safetensors", force=force)
    with opened(input) as path:
        shared = stages.quantize(sources.load_checkpoint(path), settings, observer(quiet), architecture=architecture)
        destination.write(lambda file: checkpoint.save(shared, file))


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for command in (train, prune, quantize):
        app.command()(command)
