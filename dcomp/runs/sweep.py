"""A sweep: a run at every point of a grid, each in its folder, several at the same time.

Stages that points have in common run once, in the folder of the first of these points; the other points adopt their
files (`run.Run`). A sweep that was stopped continues as a run does. A sweep with more values uses stages that are done.
"""

import os
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from dcomp.errors import DcompError, StoppedError
from dcomp.progress.observer import Observer
from dcomp.reporting.front import PointResult
from dcomp.runs.folder import LOCK
from dcomp.runs.grid import Branch, GridPoint, branches
from dcomp.runs.summary import Summary
from dcomp.runs.workers import BranchRun, WorkerPool
from dcomp.system import cores, locks
from dcomp.system.files import make_folder


class Sweep:
    """The runs of a grid's points, in folders of their names within one.

    Attributes:
        outcomes: results of the points that are done.
        failures: the error of each other point, by its name.
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
        """Create the folder.

        Args:
            points: of one grid.
            folder: for all outputs.
            observer: of the points, not of the stages of their runs.
            jobs: runs at the same time; each has its share of the free processors, unless its recipe or OMP_NUM_THREADS
                sets the number of threads.
            force: run every stage again.

        Raises:
            OutputError: the folder cannot be created.
        """
        make_folder(folder)
        self._points = points
        self._folder = folder
        self._observer = observer or Observer()
        self._jobs = min(jobs, len(points))
        self._force = force
        self._threads = max(1, cores.free() // self._jobs)
        self._started: set[Path] = set()
        self.outcomes: list[PointResult] = []
        self.failures: dict[str, str] = {}

    def run(self) -> None:
        """Run all points that are not done; where one fails, the others continue.

        Raises:
            OutputError: another process works in the folder.
            StoppedError: Ctrl-C or SIGTERM; the runs have saved their states, and a rerun continues.
            DcompError: a process was killed.
        """
        with locks.exclusive(self._folder / LOCK, str(self._folder)):
            self._note_threads()
            self._observer.started_points(len(self._points))
            try:
                with WorkerPool(self._jobs) as workers:
                    self._run_all(workers)
            except BrokenProcessPool as error:
                raise DcompError(
                    "a process was killed; fewer at the same time (--jobs) take less memory, and a rerun continues"
                ) from error
            except (KeyboardInterrupt, SystemExit):  # SIGTERM raises the latter
                raise StoppedError(f"stopped; {len(self.outcomes)} of {len(self._points)} points are done") from None
            finally:
                self._observer.finished()

    def _note_threads(self) -> None:
        """Note how the free processors are divided, unless the user has set the number of threads."""
        if cores.THREADS not in os.environ and all(point.recipe.threads is None for point in self._points):
            runs = "1 run at a time, on" if self._jobs == 1 else f"{self._jobs} runs at a time, each on"
            threads = "1 thread" if self._threads == 1 else f"up to {self._threads} threads"
            self._observer.note(f"{runs} {threads}: {cores.free()} of {cores.in_affinity()} processors are free")

    def _run_all(self, workers: WorkerPool) -> None:
        """Run every branch, and then the branches within it, as many at the same time as there are workers."""
        waiting = [self._first_run(branch) for branch in branches(self._points)]
        running: dict[Future[Summary | None], BranchRun] = {}
        while waiting or running:
            while waiting and len(running) < self._jobs:
                work = waiting.pop(0)
                self._note_start(work)
                running[workers.submit(work)] = work
            count = len(self.outcomes) + len(self.failures)
            self._observer.finished_points(count, [work.folder.name for work in running.values()])
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                waiting[:0] = self._finish(running.pop(future), future)

    def _first_run(self, branch: Branch, previous: Path | None = None) -> BranchRun:
        """Return the first run of a branch; the folder `previous` has the stages before it."""
        folder, *siblings = (self._folder / point.name for point in branch.points)
        other_runs = [*([] if previous in (None, folder) else [previous]), *([] if self._force else siblings)]
        force = self._force and folder not in self._started
        self._started.add(folder)
        return BranchRun(branch, folder, tuple(other_runs), force, self._threads)

    def _note_start(self, work: BranchRun) -> None:
        last, count = work.branch.last, len(work.branch.points)
        activity = f"running up to {last}, for {count} points" if last else "running"
        self._observer.note(f"{work.folder.name}: {activity}")

    def _finish(self, work: BranchRun, future: Future[Summary | None]) -> list[BranchRun]:
        """Keep the result of a run, and return the runs that can start after it."""
        branch = work.branch
        try:
            summary = future.result()
        except (BrokenProcessPool, StoppedError):
            raise
        except Exception as error:
            message = str(error) if isinstance(error, DcompError) else f"{type(error).__name__}: {error}"
            self.failures |= {point.name: message for point in branch.points}
            self._observer.note(f"{work.folder.name}: failed")
            return []
        if summary is None:
            return [self._first_run(inner, work.folder) for inner in branch.branches]
        outcome = _outcome(branch.points[0], summary)
        self.outcomes.append(outcome)
        measured = outcome.measured
        judged = f"{measured.judge.title} {measured.judge.text(measured.judged)}"
        figures = f"{outcome.bytes:,} bytes, {outcome.ratio:.2f}x, {judged}"
        self._observer.note(f"{work.folder.name}: {figures} ({len(self.outcomes)} of {len(self._points)})")
        return []


def _outcome(point: GridPoint, summary: Summary) -> PointResult:
    """Return a point's figures from the summary of its run."""
    last = summary.results[-1]
    assert last.measured is not None  # the recipe has a section eval
    return PointResult(
        point.values,
        summary.sizes.file_bytes,
        summary.sizes.ratio,
        last.measured,
        last.sparsity,
        round(sum(result.seconds for result in summary.results), 3),
    )
