"""guide: the pages of the manual, in the terminal."""

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from dcomp.cli.console import print_result
from dcomp.errors import UsageError, did_you_mean

FOLDER = Path(__file__).parents[1] / "guide"

PAGES = (
    "quickstart",
    "files",
    "networks-and-data",
    "pruning",
    "quantization",
    "recipes-and-sweeps",
    "pipes-and-ci",
    "python",
    "loops",
    "container",
    "results",
    "paper-and-reference",
    "contributing",
    "commands",
)
"""The pages, in the order in which a newcomer reads them."""

WIDEST = 100
"""Columns of a page on a wide terminal: longer lines are hard to read."""

COMMENT = re.compile(r"^<!--.*-->\n", re.MULTILINE)
LINK_TO_A_PAGE = re.compile(r"\[([^]]+)]\((?!http)[^)]*\)")


def text_of(page: str) -> str:
    """Return the Markdown text of a page."""
    return (FOLDER / f"{page}.md").read_text(encoding="utf-8")


def summary_of(page: str) -> str:
    """Return what a page is about: what follows the colon in its title."""
    return text_of(page).partition("\n")[0].partition(": ")[2]


def _completed(incomplete: str) -> list[str]:
    return [page for page in PAGES if page.startswith(incomplete)]


def guide(
    page: Annotated[
        str | None, typer.Argument(metavar="PAGE", help="Page to show.", autocompletion=_completed, show_default=False)
    ] = None,
) -> None:
    """Show a page of the guide, or list the pages.

    In a pipe the page is plain Markdown, as for [bold]dcomp guide pruning | less[/bold].

    Example: [bold]dcomp guide quickstart[/bold]
    """
    if page is None:
        width = max(map(len, PAGES))
        print_result("\n".join(f"{name:{width}}  {summary_of(name)}" for name in PAGES))
        return
    if page not in PAGES:
        hint = did_you_mean(page.lower(), PAGES)
        raise UsageError(f"there is no page {page!r}{hint} (dcomp guide lists the pages)")
    text = COMMENT.sub("", text_of(page))
    if sys.stdout.isatty():
        _render(text)
    else:
        print_result(text.rstrip("\n"))


def _render(text: str) -> None:
    """Print Markdown as a terminal shows it. Links to other pages keep their words only."""
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.markdown import CodeBlock, Markdown
    from rich.padding import Padding
    from rich.text import Text

    class Block(CodeBlock):
        """A block of code, set in by two columns where it fits; the help of a command takes all 80."""

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            code = Text(str(self.text).rstrip(), style="cyan")
            fits = max(line.cell_len for line in code.split()) + 2 <= options.max_width
            yield Padding(code, (0, 0, 0, 2 if fits else 0))

    class Page(Markdown):
        """Markdown with such blocks."""

        elements = {**Markdown.elements, "fence": Block, "code_block": Block}  # noqa: RUF012  # as the base's

    console = Console()
    page = Page(LINK_TO_A_PAGE.sub(r"\1", text), hyperlinks=False)
    console.print(page, width=min(console.width, WIDEST))


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(guide)
