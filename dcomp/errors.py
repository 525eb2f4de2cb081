"""The exceptions that dcomp raises on purpose.

::

    DcompError              base; the command line prints it as one `error: ...` line (exit code 1)
    ├── UsageError          an option or argument that makes no sense (2)
    │   └── RecipeError     a recipe with mistakes, all of them in one message
    ├── CheckpointError     a file that is not a readable checkpoint
    ├── ContainerError      a .dcz file that breaks container/FORMAT.md
    │   ├── ChecksumError   a container with bytes that changed after they were written
    │   └── LimitError      a container that needs more memory than the caller allows
    ├── ArchitectureError   a network that is unknown, or does not fit the checkpoint
    ├── DataError           a data set that is missing or damaged
    ├── OutputError         a file that cannot be written, or must not be overwritten
    ├── DifferenceError     a container and a checkpoint that should be equal, and differ
    ├── GateError           a bound (--max-error, --min-ratio, --max-drop) that was missed (3)
    └── StoppedError        a stage that a signal stopped, with its state saved (130)

A class without an exit code has that of its parent.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes of a command that Ctrl-C or SIGTERM stopped."""


class DcompError(Exception):
    """Base of all errors with a message for the person at the terminal."""

    exit_code = 1


class UsageError(DcompError):
    """An option or argument that makes no sense."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe with mistakes."""


class CheckpointError(DcompError):
    """A file that is not a readable checkpoint."""


class ContainerError(DcompError):
    """A .dcz file that breaks the format."""


class ChecksumError(ContainerError):
    """A container with bytes that changed after they were written."""


class LimitError(ContainerError):
    """A container that needs more memory than the caller allows."""


class ArchitectureError(DcompError):
    """A network that is unknown, or does not fit the checkpoint."""


class DataError(DcompError):
    """A data set that is missing or damaged."""


class OutputError(DcompError):
    """A file that cannot be written, or must not be overwritten."""


class DifferenceError(DcompError):
    """A container and a checkpoint that should be equal, and differ."""


class GateError(DcompError):
    """A bound that was missed."""

    exit_code = 3


class StoppedError(DcompError):
    """A stage that a signal stopped, with the state saved from which it continues."""

    exit_code = INTERRUPTED


def first_line(error: Exception) -> str:
    """Return the first line of a foreign error's message, or the name of its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def several(subject: str, mistakes: Sequence[object]) -> str:
    """Return the message for several mistakes of a subject, like `the grid`: one line for each."""
    return "\n  ".join([f"{subject} has {len(mistakes):,} mistakes:", *map(str, mistakes)])


def did_you_mean(name: str, choices: Collection[str]) -> str:
    """Return `; did you mean X?` with the choice that begins with a name, else the most alike; "" without one."""
    near = [choice for choice in choices if choice.startswith(name)] or get_close_matches(name, choices, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def nearest(name: str, choices: Collection[str]) -> str:
    """Return `the nearest are X, Y, Z` with the three choices that are most alike, however unlike a name."""
    return f"the nearest are {', '.join(get_close_matches(name, choices, n=3, cutoff=0)) or 'none'}"


@contextmanager
def reading(path: object, error: type[DcompError], kind: str = "") -> Iterator[None]:
    """Raise `error` where the system cannot read a path in a block, or the path has a null character.

    Args:
        path: of the file, or a name for it.
        error: the class of the error.
        kind: words for the file in the message, like `the recipe`.
    """
    words = f"cannot read {kind} " if kind else "cannot read "
    try:
        yield
    except OSError as failure:
        raise error(f"{words}{path}: {failure.strerror}") from failure
    except ValueError as failure:  # a null character
        raise error(f"{words}{str(path)!r}: {failure}") from failure
