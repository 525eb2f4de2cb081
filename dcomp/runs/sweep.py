"""A sweep: a run at every point of a grid, each in a folder of its own, several at the same time.

What points have in common is run once, in the folder of the first of them; the others take its files up from there
(`pipeline.Run`). So a sweep that was stopped goes on as a run does, and one with more values takes up what is done.

Runs are tasks of a pool of processes, which hear no signals but during a task, and then only those of this module:
Ctrl-C in a terminal goes to all processes, and would reach those that still start, or wait, unprepared.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from dcomp.system import cores, locks
from dcomp.errors import TERMINATED, DcompError, OutputError, StoppedError
from dcomp.reporting.front import PointResult
from dcomp.runs.grid import Branch, GridPoint, branches
from dcomp.progress.observer import Observer
from dcomp.runs.run import LOCK, Run, Summary

SIGNALS = {signal.SIGINT, signal.SIGTERM}

SAVING = 30.0
"""Seconds that a run may take to save its state when the sweep has to end."""

_busy = threading.Event()
"""Whether this process does a task."""


@dataclass(frozen=True)
class BranchRun:
    """The run of a branch's first point, or its stages that the branch has in common.

    Attributes:
        branch: what runs.
        folder: of its first point.
        others: folders that may have done some of it.
        force: take up nothing of the folder's own.
        threads: this run's part of the processors that are free.
    """

    branch: Branch
    folder: Path
    others: tuple[Path, ...]
    force: bool
    threads: int


class Sweep:
    """The runs of a grid's points, in folders of their names within one.

    Attributes:
        outcomes: of the points that are done.
        failures: what went wrong at the others, by name.
    """

    def __init__(
        self,
        points: Sequence[GridPoint],
        folder: Path,
        observer: Observer | None = None,
        *,
        jobs: int = 1,
        force: bool = False,
    ) -> None:
        """Choose what runs, and make the folder.

        Args:
            points: of one grid.
            folder: where all outputs go.
            observer: told which point runs, and what it came to.
            jobs: runs at the same time; each has its part of the free processors, unless its recipe says how many
                threads compute, or OMP_NUM_THREADS does.
            force: run every stage again.

        Raises:
            OutputError: the folder cannot be made.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from error
        self._points = points
        self._folder = folder
        self._observer = observer or Observer()
        self._jobs = min(jobs, len(points))
        self._force = force
        self._threads = max(1, cores.free() // self._jobs)
        self._begun: set[Path] = set()
        self.outcomes: list[PointResult] = []
        self.failures: dict[str, str] = {}

    def run(self) -> None:
        """Run what is not done yet; a point that fails leaves the others to go on.

        Raises:
            OutputError: another process works in the folder.
            StoppedError: Ctrl-C came; what runs has saved its state, and a rerun goes on.
            DcompError: a process was killed.
        """
        with locks.held(self._folder / LOCK, str(self._folder)):
            self._run()

    def _run(self) -> None:
        waiting = [self._task(branch) for branch in branches(self._points)]
        running: dict[Future[Summary | None], BranchRun] = {}
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        self._tell_threads()
        self._observer.started_points(len(self._points))
        with ProcessPoolExecutor(self._jobs, mp_context=context, initializer=_end_with_parent) as pool:
            try:
                while waiting or running:
                    while waiting and len(running) < self._jobs:
                        task = waiting.pop(0)
                        running[self._submit(pool, task)] = task
                    done = len(self.outcomes) + len(self.failures)
                    self._observer.finished_points(done, [task.folder.name for task in running.values()])
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        waiting[:0] = self._finish(running.pop(future), future)
            except BrokenProcessPool as error:
                raise DcompError(
                    "a process was killed; fewer at the same time (--jobs) take less memory, and a rerun goes on"
                ) from error
            except (KeyboardInterrupt, SystemExit):  # the latter is what SIGTERM comes to
                _stop(running)
                raise StoppedError(f"stopped; {len(self.outcomes)} of {len(self._points)} points are done") from None
            except BaseException:
                _stop(running)
                raise
            finally:
                self._observer.finished()

    def _tell_threads(self) -> None:
        """Say how the free processors are divided, unless a person has said how many threads compute."""
        if cores.THREADS not in os.environ and all(point.recipe.threads is None for point in self._points):
            runs = "1 run at a time, on" if self._jobs == 1 else f"{self._jobs} runs at a time, each on"
            threads = "1 thread" if self._threads == 1 else f"up to {self._threads} threads"
            self._observer.note(
                f"{runs} {threads}: {cores.free()} of {cores.in_affinity()} processors are free"
            )

    def _task(self, branch: Branch, before: Path | None = None) -> BranchRun:
        """What runs next of a branch; the stages before it are in a folder, unless it begins at the first."""
        folder, *siblings = (self._folder / point.name for point in branch.points)
        others = [*([] if before in (None, folder) else [before]), *([] if self._force else siblings)]
        force = self._force and folder not in self._begun
        self._begun.add(folder)
        return BranchRun(branch, folder, tuple(others), force, self._threads)

    def _submit(self, pool: ProcessPoolExecutor, task: BranchRun) -> Future[Summary | None]:
        what = (
            f"running up to {task.branch.last}, for {len(task.branch.points)} points" if task.branch.last else "running"
        )
        self._observer.note(f"{task.folder.name}: {what}")
        before = _mask(signal.SIG_BLOCK, SIGNALS)  # a process that is started here begins with the same mask
        try:
            return pool.submit(_perform, task)
        finally:
            _mask(signal.SIG_SETMASK, before)

    def _finish(self, task: BranchRun, future: Future[Summary | None]) -> list[BranchRun]:
        """Note what a task came to; what can start now."""
        branch = task.branch
        try:
            summary = future.result()
        except (BrokenProcessPool, StoppedError):
            raise
        except Exception as error:
            what = str(error) if isinstance(error, DcompError) else f"{type(error).__name__}: {error}"
            self.failures |= {point.name: what for point in branch.points}
            self._observer.note(f"{task.folder.name}: failed")
            return []
        if summary is None:
            return [self._task(part, task.folder) for part in branch.branches]
        outcome = _outcome(branch.points[0], summary)
        self.outcomes.append(outcome)
        figures = f"{outcome.bytes:,} bytes, {outcome.ratio:.2f}x, top-1 error {outcome.top1_error:.2f} %"
        self._observer.note(f"{task.folder.name}: {figures} ({len(self.outcomes)} of {len(self._points)})")
        return []


def _outcome(point: GridPoint, summary: Summary) -> PointResult:
    last = summary.results[-1]
    assert last.top1_error is not None and last.top5_error is not None  # the recipe has a section eval
    return PointResult(
        point.values,
        summary.sizes.file_bytes,
        summary.sizes.ratio,
        last.top1_error,
        last.top5_error,
        last.sparsity,
        round(sum(result.seconds for result in summary.results), 3),
    )


def _end_with_parent() -> None:
    """Have this process end soon after the one that started it, also where that was killed."""
    threading.Thread(target=_watch_parent, daemon=True).start()


def _watch_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # a pool has started this process
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)  # training saves its state
    deadline = time.monotonic() + SAVING
    while _busy.is_set() and time.monotonic() < deadline:
        time.sleep(0.05)
    os._exit(TERMINATED)


def _perform(task: BranchRun) -> Summary | None:
    """Do a task, in a process of its own; during it SIGTERM asks to stop, or stops what does not listen."""
    signal.signal(signal.SIGTERM, _leave)
    cores.take(task.threads)
    _busy.set()
    _mask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    try:
        run = Run(task.branch.points[0].recipe, task.folder, force=task.force, others=task.others)
        if task.branch.last is None:
            return run.run()
        run.prepare(task.branch.last)
        return None
    finally:
        _mask(signal.SIG_BLOCK, {signal.SIGTERM})
        _busy.clear()


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(TERMINATED)


def _stop(running: Collection[Future[Summary | None]]) -> None:
    """Ask all processes to stop, and wait until their tasks have; a further Ctrl-C asks again, which stops at once."""
    while True:
        try:
            for process in multiprocessing.active_children():
                process.terminate()
            if wait(running, timeout=SAVING).not_done:
                for process in multiprocessing.active_children():
                    process.kill()
            return
        except KeyboardInterrupt:
            continue


def _mask(how: int, signals: Collection[int]) -> Collection[int]:
    """Change which signals wait, where the system can; those that did before."""
    return signal.pthread_sigmask(how, signals) if hasattr(signal, "pthread_sigmask") else set()
