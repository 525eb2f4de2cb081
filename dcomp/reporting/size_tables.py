"""A size report as tables for the terminal, as Markdown, and as CSV."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from dcomp.reporting import tables as screen
from dcomp.reporting.paper import PaperNetwork, PaperRow
from dcomp.reporting.sizes import LayerRow, SizeReport, arrange, by_module, row_dict
from dcomp.reporting.storage import Storage
from dcomp.reporting.tables import Column, Table
from dcomp.reporting.text import printable

BITS_COLUMNS = (
    "weights",
    "kept %",
    "weight bits P+Q",
    "weight bits P+Q+H",
    "index bits P+Q",
    "index bits P+Q+H",
    "est. ratio P",
    "est. ratio P+Q",
    "ratio P+Q+H",
)
STORAGE_COLUMNS = ("all", "values", "positions", "codebooks", "code tables", "biases, rest", "header")

MANY_ROWS = 40
"""Rows above which a hint says how to have fewer."""

MOST_ROWS = 1000
"""Rows of tensors or modules that are printed; a terminal is not for more."""

DEEPEST = 16
"""Depths up to which the hint looks for one."""


def report_tables(report: SizeReport) -> tuple[Table, Table]:
    """Bits and ratios of each row, beside those of the paper; and where its bytes go."""
    return _bits_table(report), _storage_table(report)


def print_report(report: SizeReport) -> None:
    """Print the tables on standard output, the last of very many rows as one, and what they do not say."""
    screen.print_tables(*report_tables(arrange(report, None, None, MOST_ROWS)))
    for remark in remarks(report):
        screen.print_text(f"\n{remark}")


def _bits_table(report: SizeReport) -> Table:
    table = Table([Column("layer", "name"), *map(Column, BITS_COLUMNS)])
    for row in report.rows:
        table.add(row.name, *_bits_cells(row, row.ratio))
        if (published := report.published(row)) is not None:
            table.add(f"paper's {published.layer}", *_published_cells(published), style="dim")
    table.add("whole file", *_bits_cells(report.total, report.ratio), style="bold")
    if report.network is not None:
        table.add("paper's total", *_published_cells(report.network.total), style="dim")
    return table


def _bits_cells(row: LayerRow, ratio: float | None) -> list[str]:
    last = "tied" if row.tensors and not row.bytes else _ratio(ratio)
    return [
        f"{row.weights:,}",
        f"{row.kept_percent:.2f}",
        "" if row.weight_bits is None else f"{row.weight_bits:.3g}",
        _bits(row.weight_bits_coded),
        _bits(row.index_bits),
        _bits(row.index_bits_coded),
        _ratio(row.estimated_ratio_pruned),
        _ratio(row.estimated_ratio_shared),
        last,
    ]


def _bits(bits: float | None) -> str:
    return "" if bits is None else f"{bits:.2f}"


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x" if ratio < 1000 else f"{ratio:,.0f}x"


def _published_cells(published: PaperRow) -> list[str]:
    bits = (published.weight_bits, published.weight_bits_coded, published.index_bits, published.index_bits_coded)
    ratios = (published.estimated_ratio_pruned, published.estimated_ratio_shared, published.ratio)
    return [
        _abbreviated(published.weights),
        f"{published.kept_percent:g}",
        *(f"{figure:g}" for figure in bits),
        *(f"{figure:.3g}x" for figure in ratios),
    ]


def _abbreviated(weights: int) -> str:
    """A number of weights as the paper prints it."""
    return f"{weights / 1_000_000:g}M" if weights >= 1_000_000 else f"{weights / 1000:g}K"


def _storage_table(report: SizeReport) -> Table:
    table = Table([Column("bytes of", "name"), *map(Column, STORAGE_COLUMNS)])
    tied = any(row.tied_to is not None for row in report.rows)
    if tied:
        table.columns = [*table.columns, Column("tied to", "name")]
    for row in report.rows:
        table.add(row.name, *_storage_cells(row.storage), *([row.tied_to or ""] if tied else []))
    empty = [""] if tied else []
    table.add("header, metadata", *_storage_cells(Storage(header=report.overhead)), *empty)
    table.add("whole file", *_storage_cells(report.storage), *empty, style="bold")
    share = [100 * part / report.file_bytes for part in (report.file_bytes, *asdict(report.storage).values())]
    table.add("of the file", *(f"{part:.1f}%" for part in share), *empty)
    return table


def _storage_cells(storage: Storage) -> list[str]:
    return [f"{part:,}" if part else "" for part in (storage.total, *asdict(storage).values())]


def remarks(report: SizeReport) -> list[str]:
    """What the tables do not say: the sizes and errors of the paper's table 1."""
    network = report.network
    return [] if network is None else [_paper_remark(network)]


def _paper_remark(network: PaperNetwork) -> str:
    errors = f"top-1 error {network.dense_error:.2f} % -> {network.top1_error:.2f} %"
    return (
        f"the paper, tables 1 and {network.table}: {network.dense} in {network.compressed}, {network.ratio}x; {errors}"
    )


def hint_at_fewer_rows(report: SizeReport) -> str | None:
    """How to have fewer rows, where there are many."""
    if len(report.rows) <= MANY_ROWS:
        return None
    deepest = max(row.name.count(".") for row in report.rows)
    depths = range(1, min(deepest, DEEPEST) + 1)
    groups = {depth: len(by_module(report.rows, depth)) for depth in depths}
    fitting = [depth for depth, count in groups.items() if 1 < count <= MANY_ROWS]
    by_depth = f"--depth {fitting[-1]} groups them by module, " if fitting else ""
    return f"{len(report.rows)} rows; {by_depth}--top 20 keeps the largest"


def as_markdown(report: SizeReport) -> str:
    """Both tables in Markdown."""
    blocks = ["\n".join(_markdown_lines(table)) for table in report_tables(report)]
    return "\n\n".join(blocks + remarks(report))


def _markdown_lines(table: Table) -> Iterator[str]:
    titles = tuple(column.title for column in table.columns)
    rules = tuple("---" if column.kind == "name" else "---:" for column in table.columns)
    for cells in (titles, rules, *table.rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def as_csv(report: SizeReport) -> str:
    """Lines of plain numbers under the attributes' names; overhead and file are lines of their own."""
    lines = [_csv_line(row_dict(row, report.published(row))) for row in report.rows]
    lines.append({"name": "header, metadata", "bytes": report.overhead, "storage.header": report.overhead})
    network = report.network.total if report.network is not None else None
    sizes = {"name": "whole file", "bytes": report.file_bytes, "ratio": report.ratio, "storage": asdict(report.storage)}
    lines.append(_csv_line({**row_dict(report.total, network), **sizes}))
    fields = [field for field in lines[-1] if report.network is not None or not field.startswith("paper")]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fields, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(lines)
    return buffer.getvalue().rstrip("\n")


def _csv_line(row: Mapping[str, object]) -> dict[str, object]:
    """A row with what it nests under names of its own."""
    line: dict[str, object] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            line |= {f"{key}.{inner}": part for inner, part in value.items()}
        else:
            line[key] = printable(value) if isinstance(value, str) else value
    return line
