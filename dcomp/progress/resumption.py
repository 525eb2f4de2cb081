"""Stages that can be stopped and resumed: the file of their state, and the signals that stop them."""

import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from dcomp.errors import OutputError, UsageError
from dcomp.system.files import check_replaceable
from dcomp.system.ranks import WORLD_SIZE

SAVE_EVERY = 60.0
"""Seconds between two saves, at least."""

STOPS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class StateFile:
    """The file in which a stage saves its state while it trains, and whether it continues from that state.

    Attributes:
        path: of a safetensors file, which each save replaces.
        resume: continue from the state in the file.
        every: seconds between two saves.
        before: epochs of the stage's first training, whose state is another file.
    """

    path: Path
    resume: bool = False
    every: float = SAVE_EVERY
    before: int = 0

    @classmethod
    def beside(cls, output: Path, *, resume: bool = False, every: float = SAVE_EVERY) -> Self:
        """Return the state of the stage that writes `output`."""
        return cls(output.with_name(f"{output.name}.state"), resume, every)

    def prepare(self, *, force: bool) -> None:
        """Check that there is a state to continue from; where none is wanted, remove it, which needs `force`.

        Raises:
            UsageError: there is no state to continue from.
            OutputError: the state of a stopped run would be lost, or a folder has its name.
        """
        if self.resume and not self.path.is_file():
            raise UsageError(f"there is no {self.path}, the state of a stopped run; leave --resume out")
        if not self.resume and not force and self.path.exists():
            raise OutputError(f"{self.path} is a stopped run's state; --resume continues from it, --force starts again")
        for path in (self.path, self.second().path):
            check_replaceable(path, force=True)
        if not self.resume:
            self.remove()

    def second(self, before: int = 0) -> Self:
        """Return the state of the second training, which follows `before` epochs of the first."""
        path = self.path.with_name(f"{self.path.name}.2")
        return type(self)(path, self.resume and path.exists(), self.every, before)

    def remove(self) -> None:
        """Remove the state, once the stage is done."""
        for path in (self.path, self.second().path):
            path.unlink(missing_ok=True)


class Stop:
    """A block in which the first Ctrl-C or SIGTERM is only recorded; a second one stops the process at once.

    Of several processes that train together, every signal is recorded: torchrun sends more than one.

    Attributes:
        requested: whether a signal came.
    """

    def __init__(self, *, listening: bool = True) -> None:
        """Choose whether signals are recorded; without `listening` they act as usual."""
        self.requested = False
        self._listening = listening
        self._before: dict[signal.Signals, Any] = {}
        self._watcher = -1

    def __enter__(self) -> Self:
        in_main = threading.current_thread() is threading.main_thread()  # only there Python allows handlers
        self._listening &= in_main
        if self._listening:
            self._before = {number: signal.signal(number, self._record) for number in STOPS}
            self._watcher = signal.set_wakeup_fd(-1)  # the command line ends a slow program by it; saving may be slow
        return self

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if WORLD_SIZE == 1:
            self._restore()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        if self._listening:
            signal.set_wakeup_fd(self._watcher, warn_on_full_buffer=False)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
