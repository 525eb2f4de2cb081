"""Tables for the terminal, which fit its width: names lose their middle, figures are never cut.

Where a table is too wide, its last columns stand in a table of their own below, beside the names again.
"""

import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from dcomp.reporting.text import ends, excerpt, narrowest, printable, shortened

ColumnKind = Literal["name", "text", "excerpt", "figure"]
"""What a column holds: names, which may lose their middle, text, which breaks between words, the beginning of something
longer, or figures, which must stay as they are."""

NARROWEST_EXCERPT = 12
"""Columns that the beginning of something takes at least."""


@dataclass(frozen=True)
class Column:
    """A column: its title, whose words may stand below each other, and what it holds."""

    title: str
    kind: ColumnKind = "figure"


@dataclass
class Table:
    """Rows of cells under columns, of which the first holds names.

    Attributes:
        columns: their titles and kinds.
        rows: cells, as many as columns.
        styles: of each row: `bold`, `dim`, or none.
    """

    columns: Sequence[Column]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    styles: list[str] = field(default_factory=list)

    def add(self, *cells: str, style: str = "") -> None:
        """Add a row; cells may come from a file, and only both ends of a very long name or text are kept."""
        fitting = (
            cell if column.kind == "figure" else ends(cell) for cell, column in zip(cells, self.columns, strict=True)
        )
        self.rows.append(tuple(map(printable, fitting)))
        self.styles.append(style)

    def cells(self, place: int) -> list[str]:
        """The cells of a column."""
        return [row[place] for row in self.rows]

    def part(self, places: Sequence[int]) -> "Table":
        """Some of the columns."""
        rows = [tuple(row[place] for place in places) for row in self.rows]
        return replace(self, columns=[self.columns[place] for place in places], rows=rows)

    def needs(self, place: int) -> int:
        """The fewest columns of a terminal that a column takes."""
        column, cells = self.columns[place], self.cells(place)
        words = max(map(cell_len, column.title.split()), default=0)
        if column.kind == "name":
            return narrowest(tuple(cells), words)
        if column.kind == "excerpt":
            return max(words, min(NARROWEST_EXCERPT, self.takes(place)))
        pieces = [word for cell in cells for word in cell.split()] if column.kind == "text" else cells
        return max([words, *map(cell_len, pieces)])

    def takes(self, place: int) -> int:
        """The columns of a terminal that a column takes where there is room: nothing is shortened or broken."""
        return max([cell_len(self.columns[place].title), *map(cell_len, self.cells(place))])


def split_to_width(table: Table, width: int | None) -> Iterator[Table]:
    """The table in parts that fit a width, each with the first column; one part if there is no width to fit."""
    first, *others = range(len(table.columns))
    needs = [table.needs(place) for place in range(len(table.columns))]
    if width is None or sum(needs) + len(others) <= width:
        yield table
        return
    part = [first]
    for place in others:
        if len(part) > 1 and sum(needs[chosen] + 1 for chosen in part) + needs[place] > width:
            yield table.part(part)
            part = [first]
        part.append(place)
    yield table.part(part)


def print_tables(*tables: Table) -> None:
    """Print tables on standard output, a blank line between them."""
    width = output_width()
    separator = ""
    for table in tables:
        for part in split_to_width(table, width):
            sys.stdout.write(separator)
            _print(part, width)
            separator = "\n"


def print_text(text: str) -> None:
    """Print lines on standard output, broken between words where they are too long."""
    width = output_width()
    for line in text.split("\n"):
        sys.stdout.write((line if width is None else textwrap.fill(line, width)) + "\n")


def output_width() -> int | None:
    """Columns that tables have to fit: those of the terminal, or what COLUMNS says; None where nothing limits them."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told):
        return int(told)
    return Console().width if sys.stdout.isatty() else None


def _print(table: Table, width: int | None) -> None:
    """Print a table in the columns that there are, or in those that it needs at least."""
    widths = _widths(table, width)
    lines = RichTable(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column, own in zip(table.columns, widths, strict=True):
        justify: Literal["left", "right"] = "right" if column.kind == "figure" else "left"
        lines.add_column(escape(column.title), justify=justify, width=own)
    for row, style in zip(table.rows, table.styles, strict=True):
        cells = zip(row, table.columns, widths, strict=True)
        lines.add_row(*(escape(_cut(cell, column.kind, own)) for cell, column, own in cells), style=style)
    Console(width=sum(widths) + len(widths) - 1, highlight=False).print(lines)


def _cut(cell: str, kind: ColumnKind, width: int) -> str:
    if kind == "name":
        return shortened(cell, width)
    return excerpt(cell, width) if kind == "excerpt" else cell


def _widths(table: Table, width: int | None) -> list[int]:
    """The widths of the columns: as wide as they would be, or as narrow as they can, names taking what is left."""
    places = range(len(table.columns))
    natural = [table.takes(place) for place in places]
    if width is None or sum(natural) + len(natural) - 1 <= width:
        return natural
    widths = [table.needs(place) for place in places]
    left = width - sum(widths) - len(widths) + 1
    flexible = sorted((place for place in places if table.columns[place].kind != "figure"), key=lambda p: natural[p])
    for place in flexible:
        widths[place] += max(0, min(natural[place] - widths[place], left))
        left = width - sum(widths) - len(widths) + 1
    return widths
