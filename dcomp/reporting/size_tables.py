"""A size report as tables for the terminal, as Markdown, and as CSV."""

import csv
import io
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TextIO

from dcomp.reporting.grouping import arrange, group_by_module
from dcomp.reporting.layer_row import TABLE_FIGURES, LayerRow
from dcomp.reporting.paper import PaperNetwork, PaperRow
from dcomp.reporting.sizes import SizeReport
from dcomp.reporting.storage import Storage
from dcomp.reporting.tables import Column, Table, print_tables, print_text
from dcomp.reporting.text import printable

STORAGE_TITLES = {
    "total": "all",
    "values": "values",
    "positions": "positions",
    "codebooks": "codebooks",
    "code_tables": "code tables",
    "rest": "biases, rest",
    "header": "header",
}
"""Titles of columns by attribute of `Storage`."""

MANY_ROWS = 40
"""Rows above which a hint says how to have fewer."""

MOST_ROWS = 1000
"""Rows of tensors or modules that are printed at most."""

DEEPEST = 16
"""Depths up to which the hint looks for one."""


def print_report(report: SizeReport) -> None:
    """Print both tables and the remarks on standard output; the last of very many rows become one."""
    _write_report(report, sys.stdout)


def as_text(report: SizeReport) -> str:
    """Return what `print_report` prints."""
    buffer = io.StringIO()
    _write_report(report, buffer)
    return buffer.getvalue().rstrip("\n")


def _write_report(report: SizeReport, file: TextIO) -> None:
    print_tables(*report_tables(arrange(report, None, None, MOST_ROWS)), file=file)
    for remark in remarks(report):
        print_text(f"\n{remark}", file=file)


def report_tables(report: SizeReport) -> tuple[Table, Table]:
    """Return the table of figures, with the paper's rows, and the table of where the bytes go."""
    return _figures_table(report), _storage_table(report)


def _figures_table(report: SizeReport) -> Table:
    table = Table([Column("layer", "name"), *(Column(figure.title or "") for figure in TABLE_FIGURES)])
    for row in report.rows:
        table.add(row.name, *_figure_cells(row, row.ratio))
        if (paper_row := report.paper_row(row)) is not None:
            table.add(f"paper's {paper_row.layer}", *_paper_cells(paper_row), style="dim")
    table.add("whole file", *_figure_cells(report.total, report.ratio), style="bold")
    if report.paper_total is not None:
        table.add("paper's total", *_paper_cells(report.paper_total), style="dim")
    return table


def _figure_cells(row: LayerRow, ratio: float | None) -> list[str]:
    """Return the cells of a row, whose ratio the whole file replaces by that with its header."""
    if row.tensors and not row.bytes:
        return [*(figure.text(getattr(row, figure.name)) for figure in TABLE_FIGURES[:-1]), "tied"]
    values = {figure.name: getattr(row, figure.name) for figure in TABLE_FIGURES} | {"ratio": ratio}
    return [figure.text(values[figure.name]) for figure in TABLE_FIGURES]


def _paper_cells(paper_row: PaperRow) -> list[str]:
    return [figure.paper_text(getattr(paper_row, figure.name)) for figure in TABLE_FIGURES]


def _storage_table(report: SizeReport) -> Table:
    """Return a row for each tensor, the header and the file; ties have a column where there are some."""
    has_ties = any(row.tied_to is not None for row in report.rows)
    ties = [Column("tied to", "name")] if has_ties else []
    table = Table([Column("bytes of", "name"), *map(Column, STORAGE_TITLES.values()), *ties])
    no_tie = [""] * len(ties)
    for row in report.rows:
        table.add(row.name, *_storage_cells(row.storage), *([row.tied_to or ""] if has_ties else []))
    table.add("header, metadata", *_storage_cells(Storage(header=report.overhead)), *no_tie)
    table.add("whole file", *_storage_cells(report.storage), *no_tie, style="bold")
    percentages = (100 * getattr(report.storage, name) / report.file_bytes for name in STORAGE_TITLES)
    table.add("of the file", *(f"{percentage:.1f}%" for percentage in percentages), *no_tie)
    return table


def _storage_cells(storage: Storage) -> list[str]:
    sizes = [getattr(storage, name) for name in STORAGE_TITLES]
    return [f"{nbytes:,}" if nbytes else "" for nbytes in sizes]


def remarks(report: SizeReport) -> list[str]:
    """Return texts that follow the tables: the sizes and errors of the paper's table 1."""
    return [] if report.network is None else [_table_1_remark(report.network)]


def _table_1_remark(network: PaperNetwork) -> str:
    errors = f"top-1 error {network.dense_error:.2f} % -> {network.top1_error:.2f} %"
    return (
        f"the paper, tables 1 and {network.table}: {network.dense} in {network.compressed}, {network.ratio}x; {errors}"
    )


def hint_at_fewer_rows(report: SizeReport) -> str | None:
    """Return a text that says how to have fewer rows; None where they are few."""
    if len(report.rows) <= MANY_ROWS:
        return None
    deepest = max(row.name.count(".") for row in report.rows)
    depths = range(1, min(deepest, DEEPEST) + 1)
    row_counts = {depth: len(group_by_module(report.rows, depth)) for depth in depths}
    fitting = [depth for depth, count in row_counts.items() if 1 < count <= MANY_ROWS]
    by_depth = f"--depth {fitting[-1]} groups them by module, " if fitting else ""
    return f"{len(report.rows)} rows; {by_depth}--top 20 keeps the largest"


def as_markdown(report: SizeReport) -> str:
    """Return both tables in Markdown."""
    blocks = ["\n".join(_markdown_lines(table)) for table in report_tables(report)]
    return "\n\n".join(blocks + remarks(report))


def _markdown_lines(table: Table) -> Iterator[str]:
    titles = tuple(column.title for column in table.columns)
    rules = tuple("---" if column.kind == "name" else "---:" for column in table.columns)
    for cells in (titles, rules, *table.rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def as_csv(report: SizeReport) -> str:
    """Return a line of plain numbers for each row, for the header, and for the whole file, under the keys of JSON."""
    header = {"name": "header, metadata", "bytes": report.overhead, "storage.header": report.overhead}
    lines = [_csv_line(row.as_dict(report.paper_row(row))) for row in report.rows]
    lines += [header, _csv_line(_whole_file(report))]
    columns = [column for column in lines[-1] if report.network is not None or not column.startswith("paper")]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(lines)
    return buffer.getvalue().rstrip("\n")


def _whole_file(report: SizeReport) -> dict[str, object]:
    """Return the total with the bytes, the ratio and the storage of the file, header included."""
    sizes = {"name": "whole file", "bytes": report.file_bytes, "ratio": report.ratio, "storage": asdict(report.storage)}
    return {**report.total.as_dict(report.paper_total), **sizes}


def _csv_line(row: Mapping[str, object]) -> dict[str, object]:
    """Return a row whose nested values have a key each, like `storage.values`."""
    line: dict[str, object] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            line |= {f"{key}.{inner}": part for inner, part in value.items()}
        else:
            line[key] = printable(value) if isinstance(value, str) else value
    return line
