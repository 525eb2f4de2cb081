"""Write dcomp/guide/commands.md from `--help`, at 80 columns: `python tests/guide/write_commands.py`."""

import contextlib
import io
import os
from pathlib import Path
from unittest import mock

import dcomp
from dcomp.cli import run
from dcomp.cli.app import command

PAGE = Path(dcomp.__file__).parent / "guide" / "commands.md"
HEAD = """# Commands: every option, as `--help` prints it

`dcomp COMMAND --help` prints the same. The other pages explain what to use and why; this one lists.
"""
SECTION = """
## {title}

```text
{text}
```
"""
PLAIN = {"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}


def help_of(*arguments: str) -> str:
    """Return what `--help` prints after these words, at 80 columns and without colors."""
    printed = io.StringIO()
    with mock.patch.dict(os.environ, PLAIN), contextlib.redirect_stdout(printed):
        assert run([*arguments, "--help"]) == 0
    lines = [line.rstrip() for line in printed.getvalue().splitlines()]
    return "\n".join(lines).strip("\n")


def page() -> str:
    """Return the whole page."""
    sections = [("dcomp", help_of()), *((f"dcomp {name}", help_of(name)) for name in command().commands)]
    return HEAD + "".join(SECTION.format(title=title, text=text) for title, text in sections)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
