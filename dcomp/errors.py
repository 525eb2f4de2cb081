"""Everything that dcomp raises on purpose.

::

    DcompError              base; the command line prints it as one `error: ...` line (exit code 1, or as said below)
    ├── UsageError          an option or argument that makes no sense (2)
    │   └── RecipeError     a recipe with mistakes in it, all of them in one message
    ├── CheckpointError     a file that is not a readable checkpoint
    ├── ContainerError      a .dcz file that breaks container/FORMAT.md
    │   ├── ChecksumError   bytes that changed since they were written
    │   └── LimitError      more memory than the caller allows
    ├── ArchitectureError   a model that is unknown, or does not fit the checkpoint
    ├── DataError           a data set that cannot be had
    ├── OutputError         a file that cannot be written, or must not be overwritten
    ├── DifferenceError     a container and a checkpoint that should be equal and are not
    ├── GateError           a bound asked for (--max-error, --min-ratio, --max-drop) that was missed (3)
    └── StoppedError        a stage that was asked to stop, and has saved its state (130)
"""

from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes of what Ctrl-C and SIGTERM have stopped."""


class DcompError(Exception):
    """Base of all errors whose message is written for the person at the terminal."""

    exit_code = 1


class UsageError(DcompError):
    """An option or argument that makes no sense."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe with mistakes in it."""


class CheckpointError(DcompError):
    """A file that is not a readable checkpoint."""


class ContainerError(DcompError):
    """A .dcz file that breaks the format."""


class ChecksumError(ContainerError):
    """Bytes of a container that are not the ones that were written."""


class LimitError(ContainerError):
    """A container that needs more memory than the caller allows."""


class ArchitectureError(DcompError):
    """A model that is unknown, or that the checkpoint does not fit."""


class DataError(DcompError):
    """A data set that cannot be had."""


class OutputError(DcompError):
    """A file that cannot be written, or must not be overwritten."""


class DifferenceError(DcompError):
    """A container and a checkpoint that should be equal and are not."""


class GateError(DcompError):
    """A bound that was asked for and missed."""

    exit_code = 3


class StoppedError(DcompError):
    """A stage that was asked to stop, and has saved the state from which it can go on."""

    exit_code = INTERRUPTED


def first_line(error: Exception) -> str:
    """Return the first line of a foreign error's message, or the name of its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def reading(path: object, error: type[DcompError], kind: str = "") -> Iterator[None]:
    """Raise `error` where the system cannot read a path in a block, or the path has a null character.

    Args:
        path: of the file, or a name for it.
        error: the class of the error.
        kind: what the file should be, for the message, like `the recipe`.
    """
    words = f"cannot read {kind} " if kind else "cannot read "
    try:
        yield
    except OSError as failure:
        raise error(f"{words}{path}: {failure.strerror}") from failure
    except ValueError as failure:  # a null character
        raise error(f"{words}{str(path)!r}: {failure}") from failure
