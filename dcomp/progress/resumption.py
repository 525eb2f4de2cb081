"""Stages that can be stopped and taken up again: where the state lies, and how a stop is asked for."""

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
"""Seconds that lie at least between two saves."""

STOPS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class StateFile:
    """Where a stage keeps its state while it trains, and whether it takes up the state that is there.

    Attributes:
        path: of a safetensors file; it is replaced whole at each save.
        resume: take up the state in the file.
        every: seconds between two saves; the ends of epochs in between are not saved.
        before: epochs that the stage has trained before, with a state of their own.
    """

    path: Path
    resume: bool = False
    every: float = SAVE_EVERY
    before: int = 0

    @classmethod
    def beside(cls, output: Path, *, resume: bool = False, every: float = SAVE_EVERY) -> Self:
        """The state of the stage that makes `output`."""
        return cls(output.with_name(f"{output.name}.state"), resume, every)

    def check(self, *, force: bool) -> None:
        """See that the state wanted is there, and that no other is lost unless `force`; what is not wanted goes.

        Raises:
            UsageError: there is no state to take up.
            OutputError: a stopped run's state would be replaced, or a folder has its name.
        """
        if self.resume and not self.path.is_file():
            raise UsageError(f"there is no {self.path}, the state of a stopped run; leave --resume out")
        if not self.resume and not force and self.path.exists():
            raise OutputError(f"{self.path} is a stopped run's state; --resume goes on from it, --force begins again")
        for path in (self.path, self.second().path):
            check_replaceable(path, force=True)
        if not self.resume:
            self.remove()

    def second(self, before: int = 0) -> Self:
        """The state of the training after so many epochs; that of the one before, at its end, is kept beside it."""
        path = self.path.with_name(f"{self.path.name}.2")
        return type(self)(path, self.resume and path.exists(), self.every, before)

    def remove(self) -> None:
        """Forget the state: the stage is done."""
        for path in (self.path, self.second().path):
            path.unlink(missing_ok=True)


class Stop:
    """A block in which Ctrl-C and SIGTERM ask to stop instead of stopping; a second one stops at once.

    Where there are several processes it does not: who started them sends more than one.
    """

    def __init__(self, *, listening: bool = True) -> None:
        """Without `listening` the block is like any other, and nobody asks."""
        self.asked = False
        self._listening = listening
        self._before: dict[signal.Signals, Any] = {}
        self._watcher = -1

    def __enter__(self) -> Self:
        in_main = threading.current_thread() is threading.main_thread()  # in others Python lets nobody listen
        self._listening &= in_main
        if self._listening:
            self._before = {number: signal.signal(number, self._ask) for number in STOPS}
            self._watcher = signal.set_wakeup_fd(-1)  # whoever ends a slow program: saving may take its time
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
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
