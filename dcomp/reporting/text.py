"""Text that comes from files, made fit for a terminal."""

from bisect import bisect_left
from functools import lru_cache

from rich.cells import cell_len, set_cell_size

ELLIPSIS = "..."
END_LENGTH = 200
"""Characters of each end of a long name that are looked at; its middle is never shown."""

NARROWEST_NAME = 24
"""Columns that a shortened name takes at least."""


def printable(text: str, *, lines: bool = False) -> str:
    """The text as it may be printed: whatever is no printable character is replaced, escape sequences first of all.

    Args:
        text: from a person or a file.
        lines: whether it may have several lines.
    """
    if text.isprintable():
        return text
    odd = (letter for letter in set(text) if not (letter.isprintable() or (lines and letter == "\n")))
    return text.translate(dict.fromkeys(map(ord, odd), "\N{REPLACEMENT CHARACTER}"))


def ends(name: str) -> str:
    """The name, or both ends of one that no terminal has room for; no later step then depends on its length."""
    return name if len(name) <= 2 * END_LENGTH + len(ELLIPSIS) else f"{name[:END_LENGTH]}{ELLIPSIS}{name[-END_LENGTH:]}"


def shortened(name: str, width: int) -> str:
    """The name in at most `width` columns, more than three: what is too long loses its middle."""
    if cell_len(name) <= width:
        return name
    left = width - len(ELLIPSIS)
    before = set_cell_size(name, (left + 1) // 2).rstrip()
    after = set_cell_size(name[::-1], left - cell_len(before)).rstrip()[::-1]
    return f"{before}{ELLIPSIS}{after}"


def excerpt(text: str, width: int) -> str:
    """The beginning of a text, in at most `width` columns, more than three."""
    return text if cell_len(text) <= width else set_cell_size(text, width - len(ELLIPSIS)).rstrip() + ELLIPSIS


@lru_cache(maxsize=4)  # each part of a table asks again
def narrowest(names: tuple[str, ...], at_least: int) -> int:
    """About the fewest columns, `at_least` or more, in which names that differ still do when they are shortened."""
    different = set(names)
    longest = max(at_least, *map(cell_len, different)) if different else at_least

    def told_apart(width: int) -> bool:
        return len({shortened(name, width) for name in different}) == len(different)

    widths = range(min(max(at_least, NARROWEST_NAME), longest), longest)
    return next(iter(widths[bisect_left(widths, True, key=told_apart) :]), longest)
