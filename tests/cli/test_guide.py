import os
import pty
import subprocess
import sys

import pytest

from dcomp.cli.guide import FOLDER, PAGES


def test_pages_are_listed_with_a_line_each(dcomp):
    code, out, err = dcomp("guide")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == list(PAGES)
    assert all(len(line) <= 80 and len(line.split()) > 2 for line in out.splitlines())


@pytest.mark.parametrize("page", PAGES)
def test_a_pipe_gets_the_markdown_text_without_comments(dcomp, page):
    lines = (FOLDER / f"{page}.md").read_text().splitlines()
    code, out, err = dcomp("guide", page)
    assert (code, err) == (0, "")
    assert out.splitlines() == [line for line in lines if not line.startswith("<!--")]


@pytest.mark.parametrize("page", PAGES)
def test_a_terminal_gets_a_page_within_its_width(page):
    lines = on_a_terminal(page, columns=80)
    assert max(map(len, lines)) <= 80
    assert not any(line.startswith(("# ", "```", "<!--")) for line in lines)


def test_a_page_on_a_wide_terminal_is_at_most_100_columns_wide():
    assert max(len(line.rstrip()) for line in on_a_terminal("pruning", columns=200)) <= 100


def test_a_wrong_page_is_an_error_with_a_suggestion(dcomp):
    assert dcomp("guide", "prunning") == (
        2,
        "",
        "error: there is no page 'prunning'; did you mean pruning? (dcomp guide lists the pages)\n",
    )


def test_the_list_of_pages_needs_no_numpy():
    code = "import sys; from dcomp.cli import run; run(['guide']); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def on_a_terminal(page, columns):
    """Return the lines that a terminal of this width shows, without colors."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "NO_COLOR": "1", "TERM": "dumb"}
    shown = b""
    with subprocess.Popen([sys.executable, "-m", "dcomp", "guide", page], stdout=theirs, env=environment) as process:
        os.close(theirs)
        while part := read(ours):
            shown += part
    os.close(ours)
    assert process.returncode == 0
    return shown.decode().splitlines()


def read(terminal):
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # the other end is closed
        return b""
