"""sensitivity: how much the error grows with the pruning and sharing of each layer."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from dcomp.cli.console import observer, print_result
from dcomp.cli.destinations import write_beside
from dcomp.cli.inputs import PIPE, input_checkpoint
from dcomp.cli.options import Architecture, Force, Input, Json, Key, Quiet, options_of
from dcomp.compression.error_curves import Setting
from dcomp.errors import GateError, UsageError
from dcomp.progress.measurement import PERCENTAGES
from dcomp.settings import SensitivitySettings
from dcomp.system.files import check_replaceable

if TYPE_CHECKING:
    from dcomp.compression.error_curves import PlanResult, Sensitivity


@options_of(SensitivitySettings)
def sensitivity(
    settings: SensitivitySettings,
    input: Input = None,
    key: Key = None,
    plan: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the plan that --max-drop allows, for prune and quantize, as YAML."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the curves as a PNG image.")] = None,
    architecture: Architecture = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", metavar="", help="Print CSV.")] = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Measure how the error grows as one layer at a time is pruned, or shares its weights, without retraining.

    Errors are measured on the validation part of the training data: give the --val-split and --seed of the training.

    With --max-drop a plan is chosen: for each layer the harshest sparsity and the fewest bits with which the error of
    the whole network stays within the drop. `prune`, `quantize` and recipes read it: --plan FILE.

    Example: [bold]dcomp sensitivity lenet5.safetensors --data mnist --max-drop 0.5 --plan plan.yaml[/bold]
    """
    from dcomp import stages
    from dcomp.compression import provenance

    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other: give one of them")
    _check_outputs(settings, plan, plot, force=force)
    watcher = observer(quiet)
    watcher.stage("sensitivity")
    with input_checkpoint(input, key, watcher) as checkpoint:
        settings = provenance.with_recorded_data(settings, checkpoint, watcher)
        result = stages.sensitivity(checkpoint, settings, watcher, architecture=architecture)
    name = input.name if input is not None and input != PIPE else "standard input"
    subject = f"{name} on {result.count:,} validation examples of {settings.data}"
    _print_curves(result, subject, as_json=as_json, as_csv=as_csv)
    if plot is not None:
        from dcomp.reporting import plots

        write_beside(plot, plots.sensitivity_png(result, subject), watcher, force=force)
    if plan is not None:
        write_beside(plan, _plan_yaml(result, subject), watcher, force=force)


def _check_outputs(settings: SensitivitySettings, plan: Path | None, plot: Path | None, *, force: bool) -> None:
    """Check that the plan and the plot can be written, before the work begins.

    Raises:
        UsageError: a plan without --max-drop, or a plot that is no .png.
        OutputError: a file exists and may not be replaced.
    """
    if plan is not None and settings.max_drop is None:
        raise UsageError(
            "--plan needs --max-drop, the percentage points that a plan may cost: give --max-drop 0.5, say"
        )
    for path in (plan, plot):
        if path is not None:
            check_replaceable(path, force=force)
    if plot is not None:
        from dcomp.reporting import plots

        plots.check_possible(plot)


def _plan_yaml(result: "Sensitivity", subject: str) -> bytes:
    """Return the plan as a file for prune and quantize.

    Raises:
        GateError: no layer is in the plan.
    """
    assert result.planned is not None  # a drop is allowed
    if not result.planned.plan.sections():
        drop = result.planned.max_drop
        raise GateError(
            f"no amount of the curves keeps any layer within --max-drop {drop:g}: raise it; no plan is written"
        )
    return result.planned.plan.as_yaml(f"{subject}\n{_plan_summary(result, result.planned)}").encode()


def _print_curves(result: "Sensitivity", subject: str, *, as_json: bool, as_csv: bool) -> None:
    from dcomp.reporting import render, tables

    if as_json or as_csv:
        print_result(json.dumps(result.as_dict(), indent=2) if as_json else render.curves_csv(result))
        return
    print_result(f"{subject}: {result.judge.title} {result.judge.text(result.error)}")
    for setting in get_args(Setting):
        if result.curves_of(setting):
            print_result("")
            tables.print_tables(render.curve_table(result, setting))
    if result.planned is not None:
        print_result("")
        tables.print_tables(render.plan_table(result))
        print_result(_plan_summary(result, result.planned))


def _plan_summary(result: "Sensitivity", planned: "PlanResult") -> str:
    """Return the errors without and with a plan, and its budget, in one line."""
    judge = result.judge
    errors = f"{judge.title} {judge.text(result.error)} -> {judge.text(planned.error)}"
    more = "more" if judge.lower_is_better else "less"
    allowed = f"points {more} are" if judge.metric in PERCENTAGES else f"{more} is"
    budget = judge.figure(planned.budget)
    costs = f"{planned.max_drop:g} {allowed} allowed, {budget} to each layer's sparsity or bits alone"
    return f"the whole plan: {errors} ({costs})"


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(sensitivity)
