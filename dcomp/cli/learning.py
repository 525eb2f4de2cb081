"""train, prune, finetune, quantize: the commands that may train a network."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dcomp.cli import json_document
from dcomp.cli.console import observer
from dcomp.cli.destinations import Destination, destination_of_checkpoint
from dcomp.cli.inputs import input_file
from dcomp.cli.options import (
    Architecture,
    Force,
    Input,
    Json,
    Log,
    Output,
    Quiet,
    Resume,
    SaveEvery,
    TensorBoard,
    options_of,
)
from dcomp.errors import UsageError
from dcomp.progress.csv_log import Journal
from dcomp.progress.observer import Observer, Together
from dcomp.progress.resumption import SAVE_EVERY
from dcomp.settings import (
    NETWORKS,
    FinetuneSettings,
    LearningSettings,
    PruneSettings,
    QuantizeSettings,
    TrainSettings,
)
from dcomp.system.files import check_replaceable
from dcomp.system.ranks import IS_FIRST

if TYPE_CHECKING:
    from dcomp.checkpoints.checkpoint import Checkpoint


@options_of(TrainSettings, leave_out=("architecture",))
def train(
    settings: TrainSettings,
    architecture: Annotated[str, typer.Argument(metavar="NETWORK", help=f"{', '.join(NETWORKS)}.")],
    output: Output = None,
    resume: Resume = False,
    save_every: SaveEvery = None,
    log: Log = None,
    tensorboard: TensorBoard = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a network and write its best epoch by validation error.

    Example: [bold]dcomp train lenet5 --data mnist --epochs 20[/bold]
    """
    from dcomp import stages

    name = Path(settings.architecture.rpartition(":")[2]).resolve().name  # of a folder, its last part
    with ExitStack() as stack:
        destination = Destination(
            output or Path(f"{name}.safetensors"),
            None,
            "",
            force=force,
            as_json=as_json,
            other_inputs=(settings.distill,),
        )
        state = stack.enter_context(destination).state(resume=resume, save_every=_seconds(save_every))
        watchers, record = _watchers("train", settings, quiet, log, tensorboard, force=force or resume)
        trained = stages.train(settings, watchers, state=state)
        destination.save(trained)
        if state is not None and IS_FIRST:
            state.remove()
        if as_json:
            json_document.print_document(
                "train", destination, {**json_document.describe_checkpoint(trained), **record.as_dict()}
            )


def _rewrite(
    stage: "Callable[..., Checkpoint]",
    settings: LearningSettings,
    suffix: str,
    *,
    input: Input = None,
    output: Output = None,
    architecture: Architecture = None,
    resume: Resume = False,
    save_every: SaveEvery = None,
    log: Log = None,
    tensorboard: TensorBoard = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read a checkpoint, run `stage` of `dcomp.stages` on it, write the result, and remove the state.

    The command has the stage's name. Unless `output` names the output, its name is that of the input with `suffix`.
    """
    from dcomp import sources

    name = stage.__name__
    if not settings.epochs:
        _check_absent(
            {"--arch": architecture, "--log": log, "--tensorboard": tensorboard, "--save-every": save_every}
            | {"--resume": resume or None}
        )
    other_inputs = list(settings.named_checkpoints().values())
    with destination_of_checkpoint(
        output, input, suffix, force=force, as_json=as_json, other_inputs=other_inputs
    ) as destination:
        state = destination.state(resume=resume, save_every=_seconds(save_every)) if settings.epochs else None
        watchers, record = _watchers(name, settings, quiet, log, tensorboard, force=force or resume)
        with input_file(input) as path:
            checkpoint = sources.load_checkpoint(path, note=watchers.note)
            changed = stage(checkpoint, settings, watchers, architecture=architecture, state=state)
            destination.save(changed)
        if state is not None and IS_FIRST:
            state.remove()
        if as_json:
            described = json_document.describe_checkpoint(changed, count_values=name == "quantize")
            json_document.print_document(name, destination, {**described, **record.as_dict()})


@options_of(PruneSettings, passed_on_to=_rewrite)
def prune(settings: PruneSettings, **options: Any) -> None:
    """Set the least important weights to zero; with --epochs the network retrains.

    Example: [bold]dcomp prune lenet5.safetensors --sparsity 0.92 --epochs 16[/bold]
    """
    from dcomp import stages

    _rewrite(stages.prune, settings, ".pruned", **options)


@options_of(FinetuneSettings, passed_on_to=_rewrite)
def finetune(settings: FinetuneSettings, **options: Any) -> None:
    """Train a network on; zeros stay zero, shared values stay shared.

    The best epoch by validation error is written; the start is a candidate too.

    Example: [bold]dcomp finetune lenet5.pruned.safetensors --epochs 10[/bold]
    """
    from dcomp import stages

    _rewrite(stages.finetune, settings, ".finetuned", **options)


@options_of(QuantizeSettings, passed_on_to=_rewrite)
def quantize(settings: QuantizeSettings, **options: Any) -> None:
    """Let the weights of each layer share 2^N values; with --epochs these train.

    Example: [bold]dcomp quantize lenet5.pruned.safetensors --conv-bits 8 --fc-bits 5[/bold]
    """
    from dcomp import stages

    _rewrite(stages.quantize, settings, ".quantized", **options)


def _check_absent(options: Mapping[str, object]) -> None:
    """Raise UsageError for options of training that are given where nothing trains; None is not given."""
    if names := [option for option, value in options.items() if value is not None]:
        raise UsageError(f"{' and '.join(names)} would do nothing without training: give --epochs as well")


def _seconds(save_every: float | None) -> float:
    """Return the seconds between saves of the state, which have a default."""
    return SAVE_EVERY if save_every is None else save_every


def _watchers(
    stage: str, settings: LearningSettings, quiet: bool, log: Path | None, tensorboard: Path | None, *, force: bool
) -> tuple[Observer, json_document.Recorder]:
    """Return the observers of a stage: the terminal, a CSV file and TensorBoard; and the record for `--json`.

    Raises:
        OutputError: the CSV file exists and may not be replaced.
        UsageError: TensorBoard is not installed.
    """
    record = json_document.Recorder()
    watchers: list[Observer] = [observer(quiet), record]
    watchers[0].stage(stage)
    if not IS_FIRST:
        return watchers[0], record
    if log is not None:
        check_replaceable(log, force=force)
        watchers.append(Journal(log))
    if tensorboard is not None:
        from dcomp.learning.tensorboard import Curves

        watchers.append(Curves(tensorboard))
    return Together(*watchers), record


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for command in (train, prune, finetune, quantize):
        app.command()(command)
