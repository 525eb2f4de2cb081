"""eval, report: the errors of a checkpoint, and its bytes."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from dcomp.cli.console import observer, print_result
from dcomp.cli.inputs import input_checkpoint, input_file
from dcomp.cli.options import Architecture, Input, Json, Key, MaxMemory, Quiet, bytes_from_gib, options_of
from dcomp.errors import UsageError
from dcomp.progress.measurement import Judge, title_of
from dcomp.progress.observer import Observer
from dcomp.settings import EvalSettings, ReportSettings

if TYPE_CHECKING:
    from dcomp.reporting.sizes import SizeReport


@options_of(EvalSettings)
def evaluate(
    settings: EvalSettings,
    input: Input = None,
    key: Key = None,
    architecture: Architecture = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a checkpoint or .dcz file on test data; --max-error, --max and --min make it a gate.

    Example: [bold]dcomp eval lenet5.dcz --data mnist --max-error 1.0[/bold]
    """
    from dcomp import stages

    watcher = observer(quiet)
    watcher.stage("eval")
    with input_checkpoint(input, key, watcher) as checkpoint:
        result = stages.evaluate(checkpoint, settings, watcher, architecture=architecture)
    if as_json:
        print_result(json.dumps(result.as_dict()))
    else:
        texts = {title_of(name): Judge(name).text(value) for name, value in result.metrics.items()}
        texts["examples"] = f"{result.count:,}"
        width = max(map(len, texts)) + 2
        for title, text in texts.items():
            print_result(f"{title:<{width}}{text}")
    stages.check_bounds(result, settings)


ROWS_PANEL = "Rows"
"""Options that choose the rows of a report."""

SortKey = Literal["name", "weights", "kept", "kept_percent", "dense_bytes", "bytes", "ratio"]


@options_of(ReportSettings)
def report(
    settings: ReportSettings,
    input: Input = None,
    key: Key = None,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Checkpoint whose dense bytes count in the ratios, in place of the file's own."
        ),
    ] = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", metavar="", help="Print CSV.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", metavar="", help="Print Markdown tables.")] = False,
    depth: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Group tensors by the first N parts of their module's name, after the parts that all names share.",
            rich_help_panel=ROWS_PANEL,
        ),
    ] = None,
    sort: Annotated[
        SortKey | None,
        typer.Option(
            metavar="KEY",
            help=f"Sort rows by {', '.join(get_args(SortKey))}: names ascending, all else descending.",
            rich_help_panel=ROWS_PANEL,
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Keep the first N rows by --sort, else the largest, and sum the others.",
            rich_help_panel=ROWS_PANEL,
        ),
    ] = None,
    max_memory: MaxMemory = 8,
    quiet: Quiet = False,
) -> None:
    """Show where the bytes of a .dcz file go, layer by layer, as in the paper's tables; --min-ratio makes it a gate.

    Any other checkpoint is encoded in memory first. Bits are per kept weight, which is a weight that is not zero. P is
    pruning, Q quantization, H Huffman coding.

    Figures after P+Q+H count the bytes of the file: index bits are the positions, weight bits all else in a record.
    Figures before H are estimates by the paper's arithmetic: after P, the kept weights without positions; after P+Q, a
    code of log2(shared values) bits for each, gaps of one fixed width with their fillers, and the codebook.

    A second table shows where the bytes of the file go. The paper's rows stand beside those of its networks.

    Example: [bold]dcomp report lenet5.dcz --min-ratio 39[/bold]
    """
    from dcomp import stages
    from dcomp.reporting.grouping import arrange

    if as_json + as_csv + as_markdown > 1:
        raise UsageError("--json, --csv and --markdown exclude each other: give one of them")
    watcher = observer(quiet)
    measured = _measure_sizes(input, key, against, bytes_from_gib(max_memory), watcher)
    arranged = arrange(measured, depth, sort or ("bytes" if top is not None else None), top)
    if as_json:
        print_result(json.dumps(arranged.as_dict(), indent=2))
    else:
        _print_tables(arranged, watcher, as_csv=as_csv, as_markdown=as_markdown)
    stages.check_ratio(measured, settings)


def _measure_sizes(
    input: Path | None, key: str | None, against: Path | None, max_memory: int, watcher: Observer
) -> "SizeReport":
    from dcomp import sources, stages

    with ExitStack() as stack:
        path = stack.enter_context(input_file(input))
        other = stack.enter_context(input_file(against)) if against else None
        dense = sources.load_checkpoint(other, note=watcher.note) if other else None
        container = sources.load_container(path, max_memory=max_memory, key=key, note=watcher.note)
        return stages.report(container, dense)


def _print_tables(report: "SizeReport", watcher: Observer, *, as_csv: bool, as_markdown: bool) -> None:
    from dcomp.reporting import size_tables

    if as_csv or as_markdown:
        print_result(size_tables.as_csv(report) if as_csv else size_tables.as_markdown(report))
        return
    size_tables.print_report(report)
    if (hint := size_tables.hint_at_fewer_rows(report)) is not None:
        watcher.note(hint)


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("eval")(evaluate)
    app.command()(report)
