"""Results as tables for the terminal; a size report as Markdown or CSV as well, curves and fronts as CSV."""

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from itertools import islice
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dcomp.benchmark import Row as BenchRow
from dcomp.curves import Point, Sensitivity, Setting
from dcomp.front import FIGURES, Ranked
from dcomp.reporting.outline import Outline
from dcomp.reporting.sizes import Row, SizeReport

FILE_WIDTH = 160
"""Columns of a table that does not go to a terminal; nothing is cut there."""

SHOWN_OF_A_VALUE = 60
"""Characters of a metadata value that are shown."""

SHOWN_TENSORS, SHOWN_KEYS = 5000, 1000
"""Lines of tensors and of metadata in the tables of `inspect`; rich takes a millisecond for each."""

COLUMNS = (
    "layer",
    "weights",
    "kept %",
    "weight bits P+Q",
    "weight bits P+Q+H",
    "index bits P+Q",
    "index bits P+Q+H",
    "fillers",
    "bytes",
    "ratio",
)


def cells(report: SizeReport) -> list[list[str]]:
    """The report's lines: one for each tensor, the overhead, and the whole file."""
    lines = [_cells(row) for row in report.rows]
    lines.append(["header, metadata", *[""] * 7, f"{report.overhead:,}", ""])
    total = _cells(report.total)
    lines.append(["whole file", *total[1:-2], f"{report.file_bytes:,}", f"{report.ratio:.2f}x"])
    return lines


def _cells(row: Row) -> list[str]:
    index = [f"{row.index_bits:.3g}", f"{row.index_bits_coded:.2f}"] if row.index_bits is not None else ["", ""]
    return [
        row.name,
        f"{row.weights:,}",
        f"{row.kept_percent:.2f}",
        f"{row.weight_bits:.3g}",
        f"{row.weight_bits_coded:.2f}",
        *index,
        f"{row.fillers:,}",
        f"{row.bytes:,}",
        f"{row.ratio:.2f}x",
    ]


def as_table(report: SizeReport) -> Table:
    """A rich table; the last line is the whole file."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    lines = cells(report)
    for place, column in enumerate(COLUMNS):
        widest = max(len(line[place]) for line in lines)  # in a narrow terminal names are folded, numbers never
        min_width = None if column == "layer" else widest
        table.add_column(column, "", justify="right" if min_width else "left", overflow="fold", min_width=min_width)
    for line in lines[:-1]:
        table.add_row(escape(line[0]), *line[1:], end_section=line is lines[-2])
    table.add_row(*lines[-1], style="bold")
    return table


def paper_table(report: SizeReport) -> Table | None:
    """The whole file beside the paper's network; None if it is no network of the paper's."""
    if report.paper is None:
        return None
    table = _figures(("",), (*COLUMNS[2:7], "ratio", "top-1 error %"))
    table.add_row("this file", *_cells(report.total)[2:7], f"{report.ratio:.2f}x", "")
    *figures, ratio, error = (f"{value:g}" for value in astuple(report.paper))
    table.add_row("the paper's", *figures, f"{ratio}x", error)
    return table


def outline_table(outline: Outline) -> Table:
    """A line for each tensor of a container, its header, and the whole file."""
    table = _figures(("tensor", "dtype", "shape", "encoding"), ("dense bytes", "bytes", "ratio", "offset", "CRC-32"))
    for line in outline.tensors[:SHOWN_TENSORS]:
        shape = " x ".join(map(str, line.shape)) or "scalar"
        ratio, offset = (f"{line.ratio:.2f}x", f"{line.offset:,}") if line.ratio is not None else ("", "")
        figures = [f"{line.dense_bytes:,}", f"{line.bytes:,}", ratio, offset, line.crc]
        table.add_row(_shown(line.name), line.dtype, shape, _shown(line.encoding), *figures)
    if (hidden := len(outline.tensors) - SHOWN_TENSORS) > 0:
        table.add_row(f"and {hidden:,} more; --json lists all", *[""] * 8)
    table.add_row("header, metadata", "", "", "", "", f"{outline.header_bytes:,}", "", "0", "", end_section=True)
    words = ("whole file", "", "", f"version {outline.version}")
    sizes = (f"{outline.dense_bytes:,}", f"{outline.file_bytes:,}", f"{outline.ratio:.2f}x")
    table.add_row(*words, *sizes, "", "", style="bold")
    return table


def metadata_table(metadata: Mapping[str, str]) -> Table:
    """A line for each key: the bytes of its value, and the beginning of that."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("metadata", overflow="fold")
    table.add_column("bytes", justify="right", no_wrap=True)
    table.add_column("value", no_wrap=True, overflow="ellipsis")
    for key, value in islice(metadata.items(), SHOWN_KEYS):
        short = value if len(value) <= SHOWN_OF_A_VALUE else f"{value[:SHOWN_OF_A_VALUE]}..."
        table.add_row(_shown(key), f"{len(value.encode()):,}", _shown(short))
    if (hidden := len(metadata) - SHOWN_KEYS) > 0:
        table.add_row(f"and {hidden:,} more; --json lists all", "", "")
    return table


def _shown(text: str) -> str:
    """Text from a file as a terminal may show it: no control characters, no markup."""
    return escape("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text))


def bench_table(rows: Sequence[BenchRow]) -> Table:
    """A line for each codec."""
    table = _figures(("codec",), ("bytes", "ratio", "compress MB/s", "decompress MB/s"))
    for row in rows:
        table.add_row(
            row.codec, f"{row.bytes:,}", f"{row.ratio:.2f}x", f"{row.compress:,.0f}", f"{row.decompress:,.0f}"
        )
    return table


def curve_table(result: Sensitivity, setting: Setting) -> Table:
    """A line for each layer: the network's top-1 error at each amount."""
    curves = result.of(setting)
    table = _figures((f"top-1 error % at {setting}",), [f"{point.amount:g}" for point in curves[0].points])
    for curve in curves:
        table.add_row(_shown(curve.layer), *(f"{point.top1_error:.2f}" for point in curve.points))
    return table


def plan_table(result: Sensitivity) -> Table:
    """A line for each layer: what the plan does to it, and the network's error with that alone; then all together."""
    table = _figures(("plan",), ("weights", "sparsity", "error % alone", "bits", "error % alone"))
    weights = {curve.layer: curve.weights for curve in result.curves}
    pruned, shared = result.chosen("sparsity"), result.chosen("bits")
    for layer, count in weights.items():
        points = [chosen.get(layer) for chosen in (pruned, shared)]
        cells = [text for point in points for text in _point_cells(point)]
        table.add_row(_shown(layer), f"{count:,}", *cells, end_section=layer == list(weights)[-1])
    total = sum(weights.values())
    sparsity = sum(weights[layer] * point.amount for layer, point in pruned.items()) / total
    table.add_row("all", f"{total:,}", f"{sparsity:.3g}", "", "", "", style="bold")
    return table


def _point_cells(point: Point | None) -> tuple[str, str]:
    return ("", "") if point is None else (f"{point.amount:g}", f"{point.top1_error:.2f}")


def curves_csv(result: Sensitivity) -> str:
    """A line for each point of each curve."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("layer", "weights", "setting", "amount", "top1_error", "loss"))
    for curve in result.curves:
        for point in curve.points:
            writer.writerow((curve.layer, curve.weights, curve.setting, point.amount, point.top1_error, point.loss))
    return buffer.getvalue().rstrip("\n")


def front_table(points: Sequence[Ranked], keys: Sequence[str]) -> Table:
    """A line for each point of a sweep, which differ in the values of `keys`; a star where it is on the front."""
    table = _figures(keys, ("bytes", "ratio", "top-1 error %"))
    table.add_column("front")
    for point in points:
        outcome = point.outcome
        figures = (f"{outcome.bytes:,}", f"{outcome.ratio:.2f}x", f"{outcome.top1_error:.2f}")
        table.add_row(*map(_shown, outcome.values.values()), *figures, "*" if point.on_front else "")
    return table


def front_csv(points: Sequence[Ranked], keys: Sequence[str]) -> str:
    """A line for each point of a sweep; `on_front` is 0 or 1."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, (*keys, *FIGURES, "on_front"), lineterminator="\n")
    writer.writeheader()
    writer.writerows({**point.as_dict(), "on_front": int(point.on_front)} for point in points)
    return buffer.getvalue()


def _figures(words: Sequence[str], figures: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for word in words:
        table.add_column(word, overflow="fold")
    for figure in figures:
        table.add_column(figure, justify="right", no_wrap=True)
    return table


def show(table: Table) -> None:
    """Print a table on standard output."""
    Console(width=None if sys.stdout.isatty() else FILE_WIDTH).print(table)


def summary_table(stages: Sequence[Mapping[str, Any]], dense_bytes: int) -> Table:
    """A line for each stage of a run: its file, how large it is, and how often the network is wrong.

    Args:
        stages: the `stages` of a run's summary.
        dense_bytes: of the tensors, against which ratios count.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage")
    table.add_column("file", overflow="fold")
    for column in ("bytes", "ratio", "kept %", "top-1 error %", "seconds"):
        table.add_column(column, justify="right")
    for stage in stages:
        error = stage["top1_error"]
        table.add_row(
            stage["stage"],
            stage["file"],
            f"{stage['bytes']:,}",
            f"{dense_bytes / stage['bytes']:.2f}x",
            f"{100 * (1 - stage['sparsity']):.2f}",
            "" if error is None else f"{error:.2f}",
            f"{stage['seconds']:.1f}",
        )
    return table


def as_markdown(report: SizeReport) -> str:
    """A table in Markdown."""
    lines = [COLUMNS, ["---", *["---:"] * (len(COLUMNS) - 1)], *cells(report)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_csv(report: SizeReport) -> str:
    """Lines of plain numbers under the attributes' names; overhead and file are lines of their own."""
    buffer = io.StringIO()
    rows = report.as_dict()["tensors"]
    assert isinstance(rows, list)
    fields = list(rows[0]) if rows else ["name", "bytes"]
    writer = csv.DictWriter(buffer, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    writer.writerow({"name": "header, metadata", "bytes": report.overhead})
    total = report.as_dict()["total"]
    assert isinstance(total, dict)
    whole = {"name": "whole file", "bytes": report.file_bytes, "ratio": report.ratio}
    writer.writerow({key: value for key, value in {**total, **whole}.items() if key in fields})
    return buffer.getvalue().rstrip("\n")
