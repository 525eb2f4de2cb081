import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from dcomp.reporting import tables
from dcomp.reporting.tables import Column, Table
from dcomp.reporting.text import NARROWEST_NAME, ends, excerpt, printable, shortened

NAMES = [f"model.layers.{number}.self_attn.{part}_proj.weight" for number in range(12) for part in "qkvo"]


def printed(monkeypatch, columns, *shown_tables):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    if columns is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", str(columns))
    tables.print_tables(*shown_tables)
    return out.getvalue()


def wide():
    table = Table([Column("layer", "name"), *(Column(f"weight bits number {number}") for number in range(12))])
    for place, name in enumerate(NAMES):
        table.add(name, *(f"{place * 1000 + number:,}" for number in range(12)))
    return table


@pytest.mark.parametrize("columns", [60, 80, 100, 300])
def test_a_table_fits_its_width_and_cuts_no_figure_and_no_title(monkeypatch, columns):
    out = printed(monkeypatch, columns, wide())
    assert max(map(cell_len, out.splitlines())) <= columns
    words = out.split()
    for place in range(len(NAMES)):
        for number in range(12):
            assert f"{place * 1000 + number:,}" in words
    assert all(word in words for word in ("layer", "weight", "bits", "number"))


def test_names_that_are_shortened_still_differ(monkeypatch):
    out = printed(monkeypatch, 60, wide())
    first_part = out.split("\n\n")[0].splitlines()[-len(NAMES) :]
    names = [line.split()[0] for line in first_part]
    assert len(set(names)) == len(NAMES)
    assert all(name.startswith("model") and "..." in name and name.endswith("weight") for name in names)


def test_a_pipe_gets_one_table_with_full_names(monkeypatch):
    lines = printed(monkeypatch, None, wide()).splitlines()
    assert len(lines) == 1 + len(NAMES)
    assert "weight bits number 11" in lines[0]
    assert [line.split()[0] for line in lines[1:]] == NAMES


@given(
    st.lists(st.tuples(st.text(max_size=60), st.integers(0, 10**12), st.integers(0, 10**12)), min_size=1, max_size=8),
    st.integers(48, 120),
)
def test_no_row_is_too_wide_and_no_figure_is_cut(rows, columns):
    table = Table([Column("name", "name"), Column("one figure"), Column("other"), Column("words", "text")])
    for name, one, other in rows:
        table.add(name, f"{one:,}", f"{other:,}", "some words that may stand below each other")
    with pytest.MonkeyPatch.context() as patch:
        out = printed(patch, columns, table)
    assert max(map(cell_len, out.splitlines())) <= max(columns, NARROWEST_NAME + len("1,000,000,000,000") + 1)
    figures = [f"{figure:,}" for _, *both in rows for figure in both]
    assert all(figure in out for figure in figures)


@pytest.mark.parametrize("columns", [None, 80])
def test_no_control_character_of_a_cell_is_printed(monkeypatch, columns):
    table = Table([Column("name", "name"), Column("value", "excerpt")])
    table.add("a\x1b[31mred\x07\x9b2J\r\n\u202ename", "\x1b]0;title\x07" * 20)
    out = printed(monkeypatch, columns, table)
    assert all(letter.isprintable() or letter == "\n" for letter in out)
    assert "[31mred" in out


def test_brackets_in_names_are_no_markup(monkeypatch):
    table = Table([Column("name", "name"), Column("n")])
    table.add("[bold]w[/bold]", "1")
    assert "[bold]w[/bold]" in printed(monkeypatch, 80, table)


def test_a_text_that_is_shown_keeps_its_lines_only_where_it_may():
    assert printable("a\nb") == "a\N{REPLACEMENT CHARACTER}b"
    assert printable("a\nb\t\x1b[0m", lines=True) == "a\nb\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[0m"
    assert printable("größer 寬 \ud800") == "größer 寬 \N{REPLACEMENT CHARACTER}"


@given(st.text(max_size=40), st.integers(5, 50))
def test_a_shortened_name_fits_and_keeps_both_ends(text, width):
    text = printable(text)
    name, beginning = shortened(text, width), excerpt(text, width)
    assert cell_len(name) <= width
    assert cell_len(beginning) <= width
    if cell_len(text) <= width:
        assert name == beginning == text
    else:
        assert "..." in name
        assert beginning.endswith("...")


def test_names_stand_left_and_figures_right(monkeypatch):
    table = Table([Column("name", "name"), Column("n"), Column("words", "text")])
    table.add("a", "1", "x")
    table.add("longer", "1,000", "longer")
    assert [line.rstrip() for line in printed(monkeypatch, None, table).splitlines()] == [
        "name       n words",
        "a          1 x",
        "longer 1,000 longer",
    ]


def test_a_table_that_just_fits_is_one(monkeypatch):
    table = Table([Column("name", "name"), Column("one"), Column("other")])
    table.add("x" * NARROWEST_NAME, "1" * 10, "2" * 10)
    width = NARROWEST_NAME + 1 + 10 + 1 + 10
    assert len(printed(monkeypatch, width, table).splitlines()) == 2
    assert len(printed(monkeypatch, width - 1, table).splitlines()) == 5


@pytest.mark.parametrize("columns", [None, 60])
def test_a_table_shows_both_ends_of_a_very_long_name(monkeypatch, columns):
    table = Table([Column("name", "name"), Column("n"), Column("words", "text")])
    names = [f"{number}\x1b" + letter * 500_000 + f"\x1b{number}" for number in range(3) for letter in "a\u5bec"]
    for name in [*names, "short"]:
        table.add(name, "1", f"tied to {name}")
    out = printed(monkeypatch, columns, table)
    assert len(out) < 20_000
    for number in range(3):
        lines = [line for line in out.splitlines() if line.startswith(f"{number}\N{REPLACEMENT CHARACTER}")]
        assert len(lines) >= 2
        assert all(f"...{line[2]}" in line and f"\N{REPLACEMENT CHARACTER}{number} " in line for line in lines)


def test_a_name_that_just_fits_into_both_ends_is_not_cut():
    assert ends("a" * 403) == "a" * 403
    assert ends("a" * 202 + "b" * 202) == "a" * 200 + "..." + "b" * 200


def test_a_part_of_a_table_leaves_out_rows_that_say_nothing_in_it(monkeypatch):
    table = Table([Column("bytes of", "name"), Column("all"), Column("seldom")])
    for name in "abc":
        table.add(name, "9" * 40, "1" * 50 if name == "c" else "")
    first, second = printed(monkeypatch, 80, table).split("\n\n")
    assert [line.split()[0] for line in first.splitlines()[1:]] == ["a", "b", "c"]
    assert [line.split()[0] for line in second.splitlines()[1:]] == ["c"]
