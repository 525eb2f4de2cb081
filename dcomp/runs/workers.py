"""Processes that run the recipes of a sweep at the same time.

A worker blocks SIGINT and SIGTERM, except for SIGTERM while it runs a recipe. Ctrl-C in a terminal goes to all
processes, and must not interrupt a worker that starts or waits for a run.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Collection
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from dcomp.errors import TERMINATED
from dcomp.runs.grid import Branch
from dcomp.runs.run import Run
from dcomp.runs.summary import Summary
from dcomp.system import cores

SIGNALS = {signal.SIGINT, signal.SIGTERM}

SAVING = 30.0
"""Seconds that a run may take to save its state when the sweep has to end."""

_is_working = threading.Event()
"""Set while this process runs a recipe."""


@dataclass(frozen=True)
class BranchRun:
    """The run of a branch's first point, or of the stages that the points of the branch have in common.

    Attributes:
        branch: what runs.
        folder: of its first point.
        other_runs: folders of runs that may have done some of the stages.
        force: run the stages again that are done in the folder.
        threads: how many threads may compute.
    """

    branch: Branch
    folder: Path
    other_runs: tuple[Path, ...]
    force: bool
    threads: int


class WorkerPool:
    """A pool of processes, for a `with` block; it ends with the block, and at once after an error."""

    def __init__(self, count: int) -> None:
        """Prepare the pool; its processes start with the first runs."""
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        self._pool = ProcessPoolExecutor(count, mp_context=context, initializer=_end_with_parent)
        self._futures: set[Future[Summary | None]] = set()

    def submit(self, work: BranchRun) -> Future[Summary | None]:
        """Start a run; its result is a summary, or None if it ends before the last stage.

        Raises:
            BrokenProcessPool: a process was killed.
        """
        before = _mask(signal.SIG_BLOCK, SIGNALS)  # a process that starts here inherits the mask
        try:
            future = self._pool.submit(_perform, work)
        finally:
            _mask(signal.SIG_SETMASK, before)
        self._futures.add(future)
        return future

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, BrokenProcessPool):
            self._stop()
        self._pool.shutdown()

    def _stop(self) -> None:
        """Ask all processes to stop, and wait for their runs; another Ctrl-C asks again, which stops them at once."""
        while True:
            try:
                for process in multiprocessing.active_children():
                    process.terminate()
                if wait(self._futures, timeout=SAVING).not_done:
                    for process in multiprocessing.active_children():
                        process.kill()
                return
            except KeyboardInterrupt:
                continue


def _perform(work: BranchRun) -> Summary | None:
    """Run a recipe in this process; SIGTERM then saves the state of training, or ends any other work at once."""
    signal.signal(signal.SIGTERM, _exit)
    cores.take(work.threads)
    _is_working.set()
    _mask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    try:
        run = Run(work.branch.points[0].recipe, work.folder, force=work.force, other_runs=work.other_runs)
        if work.branch.last is None:
            return run.run()
        run.prepare(work.branch.last)
        return None
    finally:
        _mask(signal.SIG_BLOCK, {signal.SIGTERM})
        _is_working.clear()


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(TERMINATED)


def _end_with_parent() -> None:
    """End this process soon after its parent ends, even if the parent was killed."""
    threading.Thread(target=_watch_parent, daemon=True).start()


def _watch_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # a pool started this process
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)  # training saves its state
    deadline = time.monotonic() + SAVING
    while _is_working.is_set() and time.monotonic() < deadline:
        time.sleep(0.05)
    os._exit(TERMINATED)


def _mask(how: int, signals: Collection[int]) -> Collection[int]:
    """Change which signals are blocked, if the system can; return the signals that were blocked before."""
    return signal.pthread_sigmask(how, signals) if hasattr(signal, "pthread_sigmask") else set()
