"""eval, report: what a checkpoint costs in errors and in bytes."""

import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dcomp.cli.console import observer, say
from dcomp.cli.files import opened
from dcomp.cli.options import Architecture, Input, Json, MaxMemory, Quiet, options_of
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
    with opened(input) as path:
        result = stages.evaluate(sources.load_checkpoint(path), settings, watcher, architecture=architecture)
    if as_json:
        say(json.dumps(asdict(result)))
    else:
        say(f"top-1 error  {result.top1_error:.2f} %")
        say(f"top-5 error  {result.top5_error:.2f} %")
        say(f"loss         {result.loss:.4f}")
        say(f"examples     {result.count:,}")
    stages.check_error(result.top1_error, settings)


@options_of(ReportSettings)
def report(
    settings: ReportSettings,
    input: Input = None,
    against: Annotated[Path | None, typer.Option(help="Checkpoint whose dense bytes count in the ratios.")] = None,
    max_memory: MaxMemory = 8,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
) -> None:
    """Show where the bytes of a .dcz file go, layer by layer, as in the paper's tables; --min-ratio makes it a gate.

    Any other checkpoint is encoded in memory first. P is pruning, Q quantization, H Huffman coding; bits are means over
    the kept weights, and over their indices. The rows and the header add up to the file's size. A tensor of few zeros
    is stored whole, and all its weights count as kept. A network of the paper's has the paper's figures below.

    Example: [bold]dcomp report lenet5.dcz --min-ratio 39[/bold]
    """
    from dcomp import sources, stages
    from dcomp.reporting import render

    if as_json + as_csv + as_markdown > 1:
        raise UsageError("--json, --csv and --markdown exclude each other")
    limit = int(max_memory * 2**30)
    with ExitStack() as stack:
        path = stack.enter_context(opened(input))
        dense = sources.load_checkpoint(stack.enter_context(opened(against))) if against else None
        sizes = stages.report(sources.load_container(path, max_memory=limit), dense)
    if as_json:
        say(json.dumps(sizes.as_dict(), indent=2))
    elif as_csv:
        say(render.as_csv(sizes))
    elif as_markdown:
        say(render.as_markdown(sizes))
    else:
        render.show(render.as_table(sizes))
        if (beside := render.paper_table(sizes)) is not None:
            say("")
            render.show(beside)
    stages.check_ratio(sizes, settings)


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("eval")(evaluate)
    app.command()(report)
