"""train, prune, finetune, quantize: the commands that may train a network."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from dcomp.cli import json_document
from dcomp.cli.console import observer
from dcomp.cli.destinations import Destination, destination_of_checkpoint
from dcomp.cli.inputs import input_checkpoint
from dcomp.cli.options import (
    Architecture,
    Force,
    Input,
    Json,
    Key,
    Log,
    Output,
    Quiet,
    Resume,
    SaveEvery,
    TensorBoard,
    WeightsAndBiases,
    options_of,
)
from dcomp.errors import UsageError
from dcomp.progress.csv_log import Journal
from dcomp.progress.observer import Observer, Together
from dcomp.progress.resumption import SAVE_EVERY, StateFile
from dcomp.settings import (
    NETWORKS,
    FinetuneSettings,
    LearningSettings,
    PruneSettings,
    QuantizeSettings,
    TrainSettings,
)
from dcomp.settings.requirements import NOTHING_WITHOUT_TRAINING, listed
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
    wandb: WeightsAndBiases = None,
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
        logs = Logs(log, tensorboard, wandb)
        watchers, record = _watchers("train", settings, quiet, logs, force=force or resume)
        trained = stages.train(settings, watchers, state=state)
        _finish("train", trained, destination, state, watchers, record, as_json=as_json)


def _rewrite(
    stage: "Callable[..., Checkpoint]",
    settings: LearningSettings,
    suffix: str,
    *,
    input: Input = None,
    key: Key = None,
    output: Output = None,
    architecture: Architecture = None,
    resume: Resume = False,
    save_every: SaveEvery = None,
    log: Log = None,
    tensorboard: TensorBoard = None,
    wandb: WeightsAndBiases = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read a checkpoint, run `stage` of `dcomp.stages` on it, write the result, and remove the state.

    The command has the stage's name. Unless `output` names the output, its name is that of the input with `suffix`.
    """
    name = stage.__name__
    if not settings.epochs:
        _check_absent(
            {"--arch": architecture, "--log": log, "--tensorboard": tensorboard, "--wandb": wandb}
            | {"--save-every": save_every, "--resume": resume or None}
        )
    other_inputs = list(settings.named_checkpoints().values())
    with destination_of_checkpoint(
        output, input, suffix, force=force, as_json=as_json, other_inputs=other_inputs
    ) as destination:
        state = destination.state(resume=resume, save_every=_seconds(save_every)) if settings.epochs else None
        watchers, record = _watchers(name, settings, quiet, Logs(log, tensorboard, wandb), force=force or resume)
        with input_checkpoint(input, key, watchers) as checkpoint:
            changed = stage(checkpoint, settings, watchers, architecture=architecture, state=state)
            _finish(name, changed, destination, state, watchers, record, as_json=as_json)


def _finish(
    command: str,
    checkpoint: "Checkpoint",
    destination: Destination,
    state: StateFile | None,
    watcher: Observer,
    record: json_document.Recorder,
    *,
    as_json: bool,
) -> None:
    """Write the result of a command, remove the state of its training, and print its document for `--json`."""
    destination.save(checkpoint, watcher)
    if state is not None and IS_FIRST:
        state.remove()
    if as_json:
        described = json_document.describe_checkpoint(checkpoint, count_values=command == "quantize")
        json_document.print_document(command, destination, {**described, **record.as_dict()})


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
        raise UsageError(NOTHING_WITHOUT_TRAINING.format(options=listed(names), epochs="--epochs"))


def _seconds(save_every: float | None) -> float:
    """Return the seconds between saves of the state, which have a default."""
    return SAVE_EVERY if save_every is None else save_every


class Logs(NamedTuple):
    """Where a stage logs its epochs; None: not there."""

    log: Path | None
    tensorboard: Path | None
    wandb: str | None


def _watchers(
    stage: str, settings: LearningSettings, quiet: bool, logs: Logs, *, force: bool
) -> tuple[Observer, json_document.Recorder]:
    """Return the observers of a stage: the terminal and its logs; and the record for `--json`.

    Raises:
        OutputError: the CSV file exists and may not be replaced.
        UsageError: TensorBoard or Weights & Biases is not installed.
    """
    record = json_document.Recorder()
    watchers: list[Observer] = [observer(quiet), record]
    watchers[0].stage(stage)
    if not IS_FIRST:
        return watchers[0], record
    if logs.log is not None:
        check_replaceable(logs.log, force=force)
        watchers.append(Journal(logs.log))
    if logs.tensorboard is not None:
        from dcomp.learning.tensorboard import Curves

        watchers.append(Curves(logs.tensorboard))
    if logs.wandb is not None:
        from dcomp.progress.weights_and_biases import Logged

        watchers.append(Logged(logs.wandb, stage, settings.arguments(), watchers[0].note))
    return Together(*watchers), record


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for command in (train, prune, finetune, quantize):
        app.command()(command)
