"""Prepare the standard streams: some may be closed, some encodings lack characters of names."""

import codecs
import io
import os
import sys

from dcomp.errors import OutputError

ESCAPING = "dcomp.escaping"


def prepare() -> None:
    """Open closed streams again, so that no file takes their place, and let every character be printed.

    Raises:
        OutputError: standard output is closed.
    """
    closed = [number for number in range(3) if _is_closed(number)]
    for _ in closed:
        os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115  # as long as the program
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    codecs.register_error(ESCAPING, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPING)
    if 1 in closed:
        raise OutputError("standard output is closed, where results are printed: leave it open, or write > /dev/null")


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False


def _escaped(error: UnicodeError) -> tuple[bytes, int]:
    """Return a character that an encoding lacks as the bytes that it has in a file name, else as an escape."""
    assert isinstance(error, UnicodeEncodeError)  # output is encoded
    text = error.object[error.start : error.end]
    try:
        return text.encode(error.encoding, "surrogateescape"), error.end
    except UnicodeEncodeError:
        return text.encode(error.encoding, "backslashreplace"), error.end
