"""A network whose tensors are replaced during one evaluation."""

from collections.abc import Mapping
from functools import partial
from typing import Self

import numpy as np
import torch
from torch import nn

from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.errors import UsageError
from dcomp.learning.conversion import to_torch
from dcomp.learning.evaluation import evaluate
from dcomp.learning.examples import Examples
from dcomp.learning.examples.loaders import LoaderExamples
from dcomp.learning.networks import network_for
from dcomp.learning.task_data import TaskData
from dcomp.progress.measurement import Measurement
from dcomp.progress.observer import Observer
from dcomp.settings import SensitivitySettings


class Probe:
    """A network, and examples on its device."""

    def __init__(self, model: nn.Module, examples: Examples) -> None:
        self._model = model
        self._examples = examples

    @classmethod
    def of_checkpoint(
        cls, checkpoint: Checkpoint, architecture: str, settings: SensitivitySettings, observer: Observer
    ) -> Self:
        """Build a checkpoint's network and load its validation examples.

        Raises:
            ArchitectureError: no such network, or checkpoint or data do not fit it.
            DataError: the data set cannot be loaded.
            UsageError: there are no validation examples.
        """
        return cls(*network_for(checkpoint, architecture, settings, observer, partial(_validation, settings)))

    def evaluate(self, changed: Mapping[str, np.ndarray]) -> Measurement:
        """Return the metrics with the tensors in `changed`; afterwards the network has its first tensors again."""
        state = self._model.state_dict()
        original = {name: state[name].clone() for name in changed}
        try:
            for name, array in changed.items():
                state[name].copy_(to_torch(array))
            evaluation = evaluate(self._model, self._examples)
        finally:
            for name, tensor in original.items():
                state[name].copy_(tensor)
        return evaluation.rounded()


def _validation(settings: SensitivitySettings, data: TaskData) -> Examples:
    """Return the validation examples that the settings choose, at most `limit` of them."""
    _, validation = data.split_validation(settings.val_split, settings.seed)
    if not len(validation):
        if isinstance(data.train, LoaderExamples):
            raise UsageError("no part of a loader can be set aside to measure on: give the Task a validation")
        raise UsageError(f"--val-split {settings.val_split:g} leaves no example to measure on")
    if settings.limit is None:
        return validation
    return validation.subset(torch.arange(min(settings.limit, len(validation))))
