"""run, demo: whole pipelines."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcomp.cli.console import observer, print_result
from dcomp.cli.options import Json, Quiet, SaveEvery, Threads, TrustCode, WeightsAndBiases
from dcomp.errors import StoppedError, UsageError
from dcomp.progress.resumption import SAVE_EVERY
from dcomp.system.temporary import part

if TYPE_CHECKING:
    from dcomp.runs.summary import Summary


def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="YAML file that names the run.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a key, as in prune.sparsity=0.97.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder that holds data sets.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for all outputs; runs/NAME unless given.")
    ] = None,
    threads: Threads = None,
    save_every: SaveEvery = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", metavar="", help="Write TensorBoard's files beside the outputs.")
    ] = False,
    wandb: WeightsAndBiases = None,
    force: Annotated[
        bool, typer.Option("-f", "--force", metavar="", help="Run all stages again, also those that are done.")
    ] = False,
    trust_code: TrustCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a recipe: train, prune, quantize, encode, eval and report; the checkpoint of each stage is kept.

    After Ctrl-C the same command continues from the stages that are done. The summary is printed and written to
    summary.json.

    Example: [bold]dcomp run sample_configs/lenet5-mnist.yaml --set prune.sparsity=0.95[/bold]
    """
    from dcomp.runs.run import Run
    from dcomp.settings.recipe import load

    overrides = [*(overrides or []), *([f"data_dir={json.dumps(str(data_dir))}"] if data_dir else [])]
    overrides += [f"threads={threads}"] if threads else []
    overrides += ["trust_code=true"] if trust_code else []
    settings = load(recipe, overrides)
    loggers = [option for option, value in (("--tensorboard", tensorboard), ("--wandb", wandb)) if value]
    if loggers and not settings.trains:
        raise UsageError(f"{loggers[0]} logs epochs, and no stage of {recipe} has any: leave it out")
    folder = out or Path("runs") / settings.name
    seconds = SAVE_EVERY if save_every is None else save_every
    work = Run(settings, folder, observer(quiet), force=force, save_every=seconds, tensorboard=tensorboard, wandb=wandb)
    summary = work.run()
    if as_json:
        print_result(json.dumps(summary.as_dict(), indent=2))
    else:
        _print_summary(summary)
    work.check_bounds(summary)


def demo(
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for all outputs; a temporary one unless given.")
    ] = None,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Run the whole pipeline on scikit-learn's handwritten digits, offline, in less than a minute.

    Example: [bold]dcomp demo[/bold]
    """
    from dcomp.runs import demo as demonstration

    with part(Path(tempfile.gettempdir()), is_folder=True) as temporary:
        try:
            summary = demonstration.run(out or temporary, observer(quiet), threads)
        except StoppedError as stopped:
            if out is None:  # the state goes with the folder
                raise KeyboardInterrupt from stopped
            raise
    _print_summary(summary)
    print_result(f"decoded again: every bit equal; {summary.sizes.ratio:.1f}x smaller as a whole file")


def _print_summary(summary: "Summary") -> None:
    from dcomp.reporting import render, size_tables, tables

    size_tables.print_report(summary.sizes)
    print_result("")
    tables.print_tables(render.summary_table(summary.as_dict()["stages"], summary.sizes.total.dense_bytes))


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for command in (run, demo):
        app.command()(command)
