"""train, prune, quantize: the commands that may train a network."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcomp.cli import json_document
from dcomp.cli.console import observer
from dcomp.cli.destinations import Destination, destination_of_checkpoint, input_file
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
from dcomp.progress.resumption import SAVE_EVERY, StateFile
from dcomp.settings import NETWORKS, LearningSettings, PruneSettings, QuantizeSettings, TrainSettings
from dcomp.system.files import check_replaceable
from dcomp.system.ranks import IS_FIRST

if TYPE_CHECKING:
    from dcomp.checkpoints.checkpoint import Checkpoint


@options_of(TrainSettings, leave_out=("architecture",))
def train(
    settings: TrainSettings,
    architecture: Annotated[str, typer.Argument(help=f"{', '.join(NETWORKS)}.")],
    start: Annotated[Path | None, typer.Option("--from", help="Checkpoint to begin with.")] = None,
    output: Output = None,
    resume: Resume = False,
    save_every: SaveEvery = SAVE_EVERY,
    log: Log = None,
    tensorboard: TensorBoard = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a network and write its best epoch by validation error. Ctrl-C saves the state, --resume goes on from it.

    Example: [bold]dcomp train lenet5 --data mnist --epochs 20[/bold]
    """
    from dcomp import sources, stages

    name = settings.architecture.rpartition(":")[2]
    with ExitStack() as stack:
        destination = Destination(
            output or Path(f"{name}.safetensors"),
            start,
            "",
            force=force,
            as_json=as_json,
            other_inputs=(settings.distill,),
        )
        state = stack.enter_context(destination).state(resume=resume, save_every=save_every)
        watchers, record = _watchers("train", settings, quiet, log, tensorboard, force=force or resume)
        begun = sources.load_checkpoint(stack.enter_context(input_file(start)), note=watchers.note) if start else None
        trained = stages.train(settings, watchers, start=begun, state=state)
        destination.save(trained)
        if state is not None and IS_FIRST:
            state.remove()
        if as_json:
            json_document.print_document(
                "train", destination, {**json_document.describe_checkpoint(trained), **record.as_dict()}
            )


@options_of(PruneSettings)
def prune(
    settings: PruneSettings,
    input: Input = None,
    output: Output = None,
    architecture: Architecture = None,
    resume: Resume = False,
    save_every: SaveEvery = SAVE_EVERY,
    log: Log = None,
    tensorboard: TensorBoard = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Set the least important weights to zero; with --epochs the network retrains meanwhile.

    A folder of shards gives a folder of shards, or one file where the output is named .safetensors.

    Example: [bold]dcomp prune lenet5.safetensors --sparsity 0.92 --epochs 16 --data mnist[/bold]
    """
    from dcomp import stages

    with destination_of_checkpoint(
        output, input, ".pruned", force=force, as_json=as_json, other_inputs=(settings.distill, settings.rewind)
    ) as destination:
        state = destination.state(resume=resume, save_every=save_every) if settings.epochs or resume else None
        watchers, record = _watchers("prune", settings, quiet, log, tensorboard, force=force or resume)
        work = partial(stages.prune, settings=settings, observer=watchers, architecture=architecture, state=state)
        changed = _rewrite(input, destination, work, state, watchers.note)
        if as_json:
            described = json_document.describe_checkpoint(changed)
            json_document.print_document("prune", destination, {**described, **record.as_dict()})


@options_of(QuantizeSettings)
def quantize(
    settings: QuantizeSettings,
    input: Input = None,
    output: Output = None,
    architecture: Architecture = None,
    resume: Resume = False,
    save_every: SaveEvery = SAVE_EVERY,
    log: Log = None,
    tensorboard: TensorBoard = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let the kept weights of each layer share 2^bits values; with --epochs those values then train.

    A folder of shards gives a folder of shards, or one file where the output is named .safetensors.

    Example: [bold]dcomp quantize lenet5.pruned.safetensors --conv-bits 8 --fc-bits 5[/bold]
    """
    from dcomp import stages

    with destination_of_checkpoint(
        output, input, ".quantized", force=force, as_json=as_json, other_inputs=(settings.distill,)
    ) as destination:
        state = destination.state(resume=resume, save_every=save_every) if settings.epochs or resume else None
        watchers, record = _watchers("quantize", settings, quiet, log, tensorboard, force=force or resume)
        work = partial(stages.quantize, settings=settings, observer=watchers, architecture=architecture, state=state)
        changed = _rewrite(input, destination, work, state, watchers.note)
        if as_json:
            described = json_document.describe_checkpoint(changed, count_values=True)
            json_document.print_document("quantize", destination, {**described, **record.as_dict()})


def _watchers(
    stage: str, settings: LearningSettings, quiet: bool, log: Path | None, tensorboard: Path | None, *, force: bool
) -> tuple[Observer, json_document.Recorder]:
    """Choose those who watch a stage: the person, a CSV file, TensorBoard, and the record for `--json`, given again.

    Raises:
        OutputError: the CSV file exists and may not be replaced.
        UsageError: there are no epochs to log or compute, or TensorBoard is not installed.
    """
    for option, value in (("--log", log), ("--tensorboard", tensorboard), ("--threads", settings.threads)):
        if value is not None and not settings.epochs:
            raise UsageError(f"{option} is about epochs: give --epochs as well, or leave it out")
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


def _rewrite(
    source: Path | None,
    destination: Destination,
    stage: "Callable[[Checkpoint], Checkpoint]",
    state: StateFile | None,
    note: "Callable[[str], object]",
) -> "Checkpoint":
    """Read a checkpoint, put it through a stage, and write what comes out; the state has then served its purpose."""
    from dcomp import sources

    with input_file(source) as path:
        changed = stage(sources.load_checkpoint(path, note=note))
        destination.save(changed)
    if state is not None and IS_FIRST:
        state.remove()
    return changed


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for command in (train, prune, quantize):
        app.command()(command)
