import numpy as np
import pytest

from dcomp.compression import retraining
from dcomp.compression.pruning import Pruning
from dcomp.learning.fit_plan import FitPlan
from dcomp.progress.observer import Observer
from dcomp.settings import PruneSettings


class Nothing:
    """Weights that are never held; it remembers the names that it was asked to hold."""

    def __init__(self):
        self.asked = []

    def hold(self, names):
        self.asked += names
        return []

    def unclear(self, names):
        return []


class Steps:
    """A session that trains nothing, and remembers at which steps masks were set."""

    steps_per_epoch = 30

    def __init__(self, checkpoint, epochs):
        self.tensors = checkpoint.tensors
        self.last_step = 30 * epochs - 1
        self.masked = []
        self.step = None
        self.dead = []
        self.held = Nothing()

    def mask_dead(self):
        self.dead.append(self.step)

    def mask(self, masks):
        self.masked.append(self.step)

    def shared(self, names):
        return []

    def weights(self, name):
        return self.tensors[name]

    def fit(self, observer, plan, state=None):
        for time, move in plan.events:
            self.step = round(time * self.steps_per_epoch)
            move()
        return [plan.eligible_after]


def pruned(checkpoint, **settings):
    settings = PruneSettings(sparsity=0.5, epochs=4, data="digits", **settings)
    session = Steps(checkpoint, 4)
    history = retraining.prune(session, checkpoint, Pruning(checkpoint.tensors, settings), Observer())
    return session, history


def moved(checkpoint, **settings):
    session, history = pruned(checkpoint, **settings)
    return session.masked[1:], history[0]


@pytest.mark.parametrize(
    ("at", "steps"), [([0], [0]), ([0.1, 1, 1.01], [3, 30, 31]), ([0.7, 3.9999], [21, 119]), ([2 / 3], [20])]
)
def test_a_move_belongs_to_the_first_step_that_begins_no_earlier(lenet_like, at, steps):
    assert moved(lenet_like, at=at) == (steps, at[-1])


def test_masks_of_a_rewound_network_do_not_move(lenet_like):
    assert moved(lenet_like, schedule="oneshot", rewind="earlier.safetensors") == ([], 0.0)


def test_tensors_of_every_kind_are_held(lenet_like):
    session = Steps(lenet_like, 1)
    retraining.fit_held(session, lenet_like.replaced({"steps": np.ones(3, np.int64)}), Observer(), FitPlan())
    assert session.held.asked == list(lenet_like.tensors)


def test_dead_units_are_masked_at_the_start_and_at_every_move(lenet_like):
    assert pruned(lenet_like, at=[0, 1], remove_dead_units=True)[0].dead == [None, 0, 30]
    assert pruned(lenet_like, at=[0, 1])[0].dead == []
