"""sweep: a recipe at every combination of some values."""

import json
from pathlib import Path
from typing import Annotated

import typer

from dcomp.cli.console import observer, print_path, print_result
from dcomp.cli.destinations import write_beside
from dcomp.cli.options import Json, Quiet
from dcomp.errors import DcompError
from dcomp.system.files import check_regular, check_replaceable, replacing

FRONT = "front.csv"


def sweep(
    recipe: Annotated[Path, typer.Argument(help="YAML file that names the run.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE,...", help="Values for a key, as in prune.sparsity=0.97,0.98."),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder that holds data sets.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for all outputs; runs/NAME-sweep unless given.")] = None,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, help="Runs at the same time.")] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads that compute, all runs together; those that are free.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw errors against bytes as a PNG image.")] = None,
    as_csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the table there too.")] = None,
    force: Annotated[bool, typer.Option("-f", "--force", help="Run stages that are done again.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a recipe at every combination of values, and show which points no other beats in bytes and error.

    Commas separate values; one that holds commas stands in brackets or quotes. Each point is a run in a folder of its
    own, of which the recipe's bounds (max_error, min_ratio) ask nothing; stages that points have in common run once. A
    rerun goes on from what is done, also with more values. Points marked * are on the front: no other is both no larger
    and no worse. The table is written to front.csv, whose path is the last line printed. A table with the same columns
    and an image are replaced by a rerun.

    Example: [bold]dcomp sweep sample_configs/lenet5-mnist.yaml --set prune.sparsity=0.9,0.95,0.97 --set seed=0,1[/bold]
    """
    from dcomp.reporting import plots, render, tables
    from dcomp.reporting.front import rank_points
    from dcomp.runs.grid import points as points_of
    from dcomp.runs.sweep import Sweep

    check_regular(recipe)
    fixed = [f"data_dir={json.dumps(str(data_dir))}"] if data_dir else []
    fixed += [f"threads={max(1, threads // jobs)}"] if threads else []
    points = points_of(recipe, overrides or [], fixed)
    if plot is not None:
        plots.check_possible(plot)
    name, keys, watcher = points[0].recipe.name, list(points[0].values), observer(quiet)
    folder = out or Path("runs") / f"{name}-sweep"
    work = Sweep(points, folder, watcher, jobs=jobs, force=force)
    for path, beginning in ((folder / FRONT, b""), (plot, plots.PNG), (as_csv, render.front_csv([], keys).encode())):
        if path is not None:
            check_replaceable(path, force=force or _begins(path, beginning))
    work.run()
    found = rank_points(work.outcomes)
    table = render.front_csv(found, keys).encode()
    with replacing(folder / FRONT, force=True) as file:
        file.write(table)
    if as_csv is not None:
        write_beside(as_csv, table, watcher, force=True)
    if plot is not None and found:
        write_beside(plot, plots.front_png(found, name), watcher, force=True)
    if as_json:
        content = {"points": [point.as_dict() for point in found], "failed": work.failures, "csv": str(folder / FRONT)}
        print_result(json.dumps(content, indent=2))
    else:
        tables.print_tables(render.front_table(found, keys))
        print_path(folder / FRONT)
    if work.failures:
        told = [f"{point}: {what}" for point, what in work.failures.items()]
        raise DcompError("\n  ".join([f"{len(told)} of {len(points)} points failed:", *told]))


def _begins(path: Path, beginning: bytes) -> bool:
    """Whether a file is like those that a sweep writes, which a rerun replaces."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(beginning)) == beginning


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(sweep)
