"""Tables that fit the width of the terminal: names lose their middle, figures are never cut.

If a table is too wide, its last columns follow in another table below, with the names again.
"""

import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from dcomp.reporting.text import ends, excerpt, narrowest, printable, shortened

ColumnKind = Literal["name", "text", "excerpt", "figure"]
"""What a column holds: names, which may lose their middle; text, which breaks between words; excerpts, which may lose
their end; or figures, which are never cut."""

NARROWEST_EXCERPT = 12
"""Columns of a terminal that an excerpt takes at least."""


@dataclass(frozen=True)
class Column:
    """A column: its title, which may break between words, and what it holds."""

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
        """Add a row. Cells may hold any text: very long ones lose their middle, unprintable characters are replaced."""
        fitting = (
            cell if column.kind == "figure" else ends(cell) for cell, column in zip(cells, self.columns, strict=True)
        )
        self.rows.append(tuple(map(printable, fitting)))
        self.styles.append(style)

    def cells(self, place: int) -> list[str]:
        """Return the cells of a column."""
        return [row[place] for row in self.rows]

    def select(self, places: Sequence[int]) -> "Table":
        """Return a table of some of the columns."""
        rows = [tuple(row[place] for place in places) for row in self.rows]
        return replace(self, columns=[self.columns[place] for place in places], rows=rows)

    def without_empty_rows(self) -> "Table":
        """Return a table of the rows that have more than a name; all of them, if none has."""
        full = [place for place, row in enumerate(self.rows) if any(row[1:])] or range(len(self.rows))
        return replace(self, rows=[self.rows[place] for place in full], styles=[self.styles[place] for place in full])

    def least_width(self, place: int) -> int:
        """Return the fewest columns of a terminal that a column takes."""
        column, cells = self.columns[place], self.cells(place)
        words = max(map(cell_len, column.title.split()), default=0)
        if column.kind == "name":
            return narrowest(tuple(cells), words)
        if column.kind == "excerpt":
            return max(words, min(NARROWEST_EXCERPT, self.natural_width(place)))
        pieces = [word for cell in cells for word in cell.split()] if column.kind == "text" else cells
        return max([words, *map(cell_len, pieces)])

    def natural_width(self, place: int) -> int:
        """Return the columns of a terminal that a column takes if nothing is shortened or broken."""
        return max([cell_len(self.columns[place].title), *map(cell_len, self.cells(place))])


def split_to_width(table: Table, width: int | None) -> Iterator[Table]:
    """Yield the table in parts that fit a width, each with the first column; without a width, yield it as it is.

    Parts after the first leave out the rows that say nothing in their columns.
    """
    first, *later = range(len(table.columns))
    least_widths = [table.least_width(place) for place in range(len(table.columns))]
    if width is None or sum(least_widths) + len(later) <= width:
        yield table
        return
    parts = [[first]]
    for place in later:
        part = parts[-1]
        if len(part) > 1 and sum(least_widths[earlier] + 1 for earlier in part) + least_widths[place] > width:
            parts.append([first])
        parts[-1].append(place)
    yield table.select(parts[0])
    yield from (table.select(part).without_empty_rows() for part in parts[1:])


def print_tables(*tables: Table, file: TextIO | None = None) -> None:
    """Print tables, a blank line between them, on standard output or into a file; they fit standard output."""
    file = file or sys.stdout
    width = output_width()
    separator = ""
    for table in tables:
        for part in split_to_width(table, width):
            file.write(separator)
            _print(part, width, file)
            separator = "\n"


def print_text(text: str, file: TextIO | None = None) -> None:
    """Print lines as `print_tables` does; long ones break between words."""
    file = file or sys.stdout
    width = output_width()
    for line in text.split("\n"):
        file.write((line if width is None else textwrap.fill(line, width)) + "\n")


def output_width() -> int | None:
    """Return the columns that tables must fit: COLUMNS, or those of the terminal; None where nothing limits them."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    return Console().width if sys.stdout.isatty() else None


def _print(table: Table, width: int | None, file: TextIO) -> None:
    """Print a table in `width` columns, or in the fewest that it needs."""
    widths = _widths(table, width)
    lines = RichTable(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column, column_width in zip(table.columns, widths, strict=True):
        justify: Literal["left", "right"] = "right" if column.kind == "figure" else "left"
        lines.add_column(escape(column.title), justify=justify, width=column_width)
    for row, style in zip(table.rows, table.styles, strict=True):
        cells = zip(row, table.columns, widths, strict=True)
        lines.add_row(*(escape(_cut(cell, column.kind, room)) for cell, column, room in cells), style=style)
    Console(file=file, width=sum(widths) + len(widths) - 1, highlight=False).print(lines)


def _cut(cell: str, kind: ColumnKind, width: int) -> str:
    if kind == "name":
        return shortened(cell, width)
    return excerpt(cell, width) if kind == "excerpt" else cell


def _widths(table: Table, width: int | None) -> list[int]:
    """Return the width of each column: what it takes, or the least, to which names and text add the space left over."""
    places = range(len(table.columns))
    natural = [table.natural_width(place) for place in places]
    if width is None or sum(natural) + len(natural) - 1 <= width:
        return natural
    widths = [table.least_width(place) for place in places]
    left = width - sum(widths) - len(widths) + 1
    flexible = sorted((place for place in places if table.columns[place].kind != "figure"), key=lambda p: natural[p])
    for place in flexible:
        widths[place] += max(0, min(natural[place] - widths[place], left))
        left = width - sum(widths) - len(widths) + 1
    return widths
