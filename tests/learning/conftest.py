"""What tests of learning share."""

from collections.abc import Callable

import pytest
from torch import Tensor, nn

from dcomp.learning.examples.loaders import LoaderExamples
from dcomp.learning.objectives import TaskObjective
from dcomp.learning.task import Task
from dcomp.learning.trial import Trial


@pytest.fixture
def trial_of() -> Callable[[nn.Module, Tensor], Trial]:
    """A trial of a network with an input."""

    def trial(model: nn.Module, inputs: Tensor) -> Trial:
        task = Task(train=[inputs], test=[inputs], loss=lambda model, batch: model(batch).sum())
        return Trial(model, LoaderExamples(task.train, TaskObjective(task)))

    return trial
