"""eval, report: what a checkpoint costs in errors and in bytes."""

import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from dcomp.cli.console import observer, print_result
from dcomp.cli.destinations import input_file
from dcomp.cli.options import Architecture, Input, Json, MaxMemory, Quiet, bytes_of, options_of
from dcomp.errors import UsageError
from dcomp.settings import EvalSettings, ReportSettings


@options_of(EvalSettings)
def evaluate(
    settings: EvalSettings,
    input: Input = None,
    architecture: Architecture = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure the errors of a checkpoint or .dcz file on test data; --max-error makes it a gate.

    Example: [bold]dcomp eval lenet5.dcz --data mnist --max-error 1.0[/bold]
    """
    from dcomp import sources, stages

    watcher = observer(quiet)
    watcher.stage("eval")
    with input_file(input) as path:
        checkpoint = sources.load_checkpoint(path, note=watcher.note)
        result = stages.evaluate(checkpoint, settings, watcher, architecture=architecture)
    if as_json:
        print_result(json.dumps(asdict(result)))
    else:
        print_result(f"top-1 error  {result.top1_error:.2f} %")
        print_result(f"top-5 error  {result.top5_error:.2f} %")
        print_result(f"loss         {result.loss:.4f}")
        print_result(f"examples     {result.count:,}")
    stages.check_error(result.top1_error, settings)


SortKey = Literal["name", "weights", "kept", "kept_percent", "dense_bytes", "bytes", "ratio"]


@options_of(ReportSettings)
def report(
    settings: ReportSettings,
    input: Input = None,
    against: Annotated[Path | None, typer.Option(help="Checkpoint whose dense bytes count in the ratios.")] = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown tables.")] = False,
    depth: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Group tensors by the first N parts of their module's name.")
    ] = None,
    sort: Annotated[SortKey | None, typer.Option(help="Sort rows: names upward, all else downward.")] = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Keep N rows, the largest unless --sort says otherwise; sum the others."),
    ] = None,
    max_memory: MaxMemory = 8,
    quiet: Quiet = False,
) -> None:
    """Show where the bytes of a .dcz file go, layer by layer, as in the paper's tables; --min-ratio makes it a gate.

    Any other checkpoint is encoded in memory first. Kept weights are those that are not zero, and bits are for each of
    them. P is pruning, Q quantization, H Huffman coding. After P+Q+H all is counted in the file: index bits are the
    coded positions, weight bits the rest of a record, codebook and code tables included. Before H nothing is written,
    and figures are estimates, counted as in the paper: after P the kept weights without positions; after P+Q a code of
    log2(shared values) bits for each, the gaps between them in one fixed width with their fillers, and the codebook.

    A second table divides the bytes of the file; its rows and the header add up to the file's size. Networks of the
    paper's have the paper's rows beside theirs.

    Example: [bold]dcomp report lenet5.dcz --min-ratio 39[/bold]
    """
    from dcomp import sources, stages
    from dcomp.reporting import size_tables, sizes

    if as_json + as_csv + as_markdown > 1:
        raise UsageError("--json, --csv and --markdown exclude each other")
    limit, watcher = bytes_of(max_memory), observer(quiet)
    with ExitStack() as stack:
        path = stack.enter_context(input_file(input))
        dense = (
            sources.load_checkpoint(stack.enter_context(input_file(against)), note=watcher.note) if against else None
        )
        measured = stages.report(sources.load_container(path, max_memory=limit, note=watcher.note), dense)
    key = sort or ("bytes" if top is not None else None)
    arranged = sizes.arrange(measured, depth, key, top)
    if as_json:
        print_result(json.dumps(arranged.as_dict(), indent=2))
    elif as_csv:
        print_result(size_tables.as_csv(arranged))
    elif as_markdown:
        print_result(size_tables.as_markdown(arranged))
    else:
        size_tables.print_report(arranged)
        if (hint := size_tables.hint_at_fewer_rows(arranged)) is not None:
            watcher.note(hint)
    stages.check_ratio(measured, settings)


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("eval")(evaluate)
    app.command()(report)
