"""Text from files, as a terminal can show it."""

from bisect import bisect_left
from functools import lru_cache

from rich.cells import cell_len, set_cell_size

ELLIPSIS = "..."
END_LENGTH = 200
"""Characters of each end of a long name that are kept; no terminal shows its middle."""

NARROWEST_NAME = 24
"""Columns that a shortened name takes at least."""


def printable(text: str, *, lines: bool = False) -> str:
    """Return a text whose unprintable characters, escape sequences above all, are replaced.

    Args:
        text: a text from a person or a file.
        lines: whether line breaks stay.
    """
    if text.isprintable():
        return text
    unprintable = (letter for letter in set(text) if not (letter.isprintable() or (lines and letter == "\n")))
    return text.translate(dict.fromkeys(map(ord, unprintable), "\N{REPLACEMENT CHARACTER}"))


def ends(name: str) -> str:
    """Return both ends of a very long name, and other names as they are; so that later steps are fast."""
    return name if len(name) <= 2 * END_LENGTH + len(ELLIPSIS) else f"{name[:END_LENGTH]}{ELLIPSIS}{name[-END_LENGTH:]}"


def shortened(name: str, width: int) -> str:
    """Return the name in at most `width` columns, more than three; a long name loses its middle."""
    if cell_len(name) <= width:
        return name
    left = width - len(ELLIPSIS)
    before = set_cell_size(name, (left + 1) // 2).rstrip()
    after = set_cell_size(name[::-1], left - cell_len(before)).rstrip()[::-1]
    return f"{before}{ELLIPSIS}{after}"


def excerpt(text: str, width: int) -> str:
    """Return the beginning of a text in at most `width` columns, more than three."""
    return text if cell_len(text) <= width else set_cell_size(text, width - len(ELLIPSIS)).rstrip() + ELLIPSIS


@lru_cache(maxsize=4)  # each part of a table asks again
def narrowest(names: tuple[str, ...], at_least: int) -> int:
    """Return about the fewest columns, `at_least` or more, in which different names stay different when shortened."""
    different = set(names)
    longest = max(at_least, *map(cell_len, different)) if different else at_least

    def stay_different(width: int) -> bool:
        return len({shortened(name, width) for name in different}) == len(different)

    widths = range(min(max(at_least, NARROWEST_NAME), longest), longest)
    return next(iter(widths[bisect_left(widths, True, key=stay_different) :]), longest)
