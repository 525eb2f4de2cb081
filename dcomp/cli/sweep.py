"""sweep: a recipe at every combination of some values."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcomp.cli.console import observer, print_path, print_result
from dcomp.cli.destinations import write_beside
from dcomp.cli.options import Json, Quiet, TrustCode
from dcomp.errors import DcompError
from dcomp.progress.observer import Observer
from dcomp.system.files import check_regular, check_replaceable, replacing

if TYPE_CHECKING:
    from dcomp.reporting.front import RankedPoint

FRONT = "front.csv"
"""The table's name in the folder of all outputs."""


def sweep(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="YAML file that names the run.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=X,...", help="Values for a key, as in prune.sparsity=0.97,0.98."),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder that holds data sets.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for all outputs; runs/NAME-sweep unless given.")
    ] = None,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, metavar="N", help="Runs at the same time.")] = 1,
    threads: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Threads that compute, in all runs together; those that are free."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw errors against bytes as a PNG image.")] = None,
    as_csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the table there too.")] = None,
    force: Annotated[bool, typer.Option("-f", "--force", metavar="", help="Run stages that are done again.")] = False,
    trust_code: TrustCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a recipe at every combination of values, and show which are best in bytes and error.

    Commas separate values; put a value with commas in brackets or quotes. Each combination runs in its own folder, and
    a stage that several have in common runs once. A rerun continues from the stages that are done, also with more
    values. The bounds of the recipe (max_error, min_ratio) are not checked.

    A combination marked * is on the front: no other is both no larger and no worse. The table is written to front.csv,
    whose path is printed last. A rerun replaces its table and its image.

    Example: [bold]dcomp sweep recipe.yaml --set prune.sparsity=0.9,0.95,0.97 --set seed=0,1[/bold]
    """
    from dcomp.reporting import plots
    from dcomp.reporting.front import rank_points
    from dcomp.runs.grid import points as points_of
    from dcomp.runs.sweep import Sweep

    check_regular(recipe)
    fixed = [f"data_dir={json.dumps(str(data_dir))}"] if data_dir else []
    fixed += [f"threads={max(1, threads // jobs)}"] if threads else []
    fixed += ["trust_code=true"] if trust_code else []
    points = points_of(recipe, overrides or [], fixed)
    if plot is not None:
        plots.check_possible(plot)
    name, keys, watcher = points[0].recipe.name, list(points[0].values), observer(quiet)
    folder = out or Path("runs") / f"{name}-sweep"
    work = Sweep(points, folder, watcher, jobs=jobs, force=force)
    _check_replaceable_outputs(folder / FRONT, plot, as_csv, keys, force=force)
    work.run()
    outcomes = rank_points(work.outcomes)
    _write(outcomes, name, keys, folder / FRONT, plot, as_csv, watcher)
    if as_json:
        content = {"points": [point.as_dict() for point in outcomes], "failed": work.failures}
        print_result(json.dumps({**content, "csv": str(folder / FRONT)}, indent=2))
    else:
        _print_front(outcomes, keys, folder / FRONT)
    if work.failures:
        lines = [f"{point}: {what}" for point, what in work.failures.items()]
        raise DcompError("\n  ".join([f"{len(lines)} of {len(points)} points failed:", *lines]))


def _check_replaceable_outputs(
    front: Path, plot: Path | None, as_csv: Path | None, keys: Sequence[str], *, force: bool
) -> None:
    """Raise OutputError for an output that exists, unless an earlier sweep wrote it."""
    from dcomp.reporting import plots, render

    for path, beginning in ((front, b""), (plot, plots.PNG), (as_csv, render.front_csv([], keys).rstrip().encode())):
        if path is not None:
            check_replaceable(path, force=force or _begins(path, beginning))


def _write(
    outcomes: "list[RankedPoint]",
    name: str,
    keys: Sequence[str],
    front: Path,
    plot: Path | None,
    as_csv: Path | None,
    watcher: Observer,
) -> None:
    """Write the table of the points, its copy if a person wants one, and the image."""
    from dcomp.reporting import plots, render

    table = render.front_csv(outcomes, keys).encode()
    with replacing(front, force=True) as file:
        file.write(table)
    if as_csv is not None:
        write_beside(as_csv, table, watcher, force=True)
    if plot is not None and outcomes:
        write_beside(plot, plots.front_png(outcomes, name), watcher, force=True)


def _print_front(outcomes: "list[RankedPoint]", keys: Sequence[str], front: Path) -> None:
    from dcomp.reporting import render, tables

    tables.print_tables(render.front_table(outcomes, keys))
    print_path(front)


def _begins(path: Path, beginning: bytes) -> bool:
    """Return whether a file begins like those that a sweep writes, which a rerun replaces."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(beginning)) == beginning


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(sweep)
