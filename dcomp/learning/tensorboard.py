"""Event files that TensorBoard shows: curves, the sparsity of each layer, weights before and after."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dcomp.errors import OutputError, UsageError
from dcomp.progress.curves import BINS, kept_weights, points_of
from dcomp.progress.observer import EpochRecord, Observer

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


class Curves(Observer):
    """An observer that writes event files."""

    def __init__(self, folder: Path) -> None:
        """Choose the folder, which is created when training begins.

        Raises:
            UsageError: TensorBoard is not installed.
        """
        try:
            from torch.utils.tensorboard import writer
        except ImportError as error:
            raise UsageError("--tensorboard needs TensorBoard: pip install 'dcomp[tensorboard]'") from error
        self._make = writer.SummaryWriter
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def started(self, steps: int, history: Sequence[EpochRecord] = (), epochs: int = 0) -> None:
        """Open a file; it hides the epochs of an earlier run that come after its saved state."""
        try:
            self._writer = self._make(str(self._folder), purge_step=len(history) + 1 if history else None)
        except OSError as error:
            raise OutputError(f"cannot write to {self._folder}: {error.strerror}") from error

    def finished_epoch(self, record: EpochRecord) -> None:
        """Write the epoch's figures."""
        assert self._writer is not None  # training has begun
        for name, value in points_of(record).items():
            self._writer.add_scalar(name, value, record.epoch)
        self._writer.flush()

    def weights(self, epoch: int, tensors: Mapping[str, np.ndarray]) -> None:
        """Write a histogram of each tensor's kept weights."""
        assert self._writer is not None  # training has begun
        for name, kept in kept_weights(tensors):
            self._writer.add_histogram(name, kept, epoch, bins=BINS)

    def finished(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
