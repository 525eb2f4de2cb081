"""Runs that Weights & Biases shows: curves, the sparsity of each layer, weights before and after."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from dcomp.errors import UsageError, first_line
from dcomp.progress.curves import BINS, kept_weights, points_of
from dcomp.progress.observer import EpochRecord, Observer


class Logged(Observer):
    """An observer that logs a stage as a run of Weights & Biases; with WANDB_MODE=offline, into a folder `wandb`."""

    def __init__(
        self,
        project: str,
        name: str,
        config: Mapping[str, Any],
        note: Callable[[str], object],
        *,
        group: str | None = None,
    ) -> None:
        """Choose the names; the run begins when training begins.

        Args:
            project: of the run.
            name: of the run, like `prune`.
            config: the settings of the stage, as plain data.
            note: called with a line that says where the run is.
            group: of runs, like the name of a recipe.

        Raises:
            UsageError: the package wandb is not installed.
        """
        try:
            import wandb
        except ImportError as error:
            raise UsageError("--wandb needs Weights & Biases: pip install 'dcomp[wandb]'") from error
        self._package = wandb
        settings = wandb.Settings(silent=True, console="off")  # standard output belongs to the command
        self._init = partial(
            wandb.init,
            project=project,
            name=name,
            group=group,
            config=dict(config),
            reinit=True,
            settings=settings,
        )
        self._note = note
        self._run: Any = None

    def started(self, steps: int, history: Sequence[EpochRecord] = (), epochs: int = 0) -> None:
        """Begin the run, unless this is the second training of the stage.

        The next run, or the end of the process, ends it.

        Raises:
            UsageError: it cannot begin, as without a login.
        """
        if self._run is not None:
            return
        try:
            self._run = self._init()
        except (self._package.Error, OSError) as error:
            remedy = "log in with `wandb login`, or set WANDB_MODE=offline"
            raise UsageError(f"--wandb: {first_line(error)}; {remedy}") from error
        self._note(f"Weights & Biases: {self._run.dir if self._run.offline else self._run.url}")

    def finished_epoch(self, record: EpochRecord) -> None:
        """Log the epoch's figures."""
        self._run.log(points_of(record), step=record.epoch)

    def weights(self, epoch: int, tensors: Mapping[str, np.ndarray]) -> None:
        """Log a histogram of each tensor's kept weights."""
        for name, kept in kept_weights(tensors):
            histogram = self._package.Histogram(np_histogram=np.histogram(kept, BINS))
            self._run.log({name: histogram}, step=epoch)
