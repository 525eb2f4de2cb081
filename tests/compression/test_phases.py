import numpy as np
import pytest

from dcomp.compression.phases import Phases
from dcomp.errors import CheckpointError, UsageError
from dcomp.settings import PruneSettings, QuantizeSettings


class Network:
    """A network of two layers; it remembers what sections did."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.weights = {"a": rng.normal(size=(10, 10)), "b": rng.normal(size=(5, 10))}
        self.parameters = {"a": "a", "b": "b"}
        self.acts = []

    def tensors(self):
        return dict(self.weights)

    def mask(self, masks):
        self.acts.append(("mask", *masks))
        self.weights |= {name: np.where(mask, self.weights[name], 0) for name, mask in masks.items()}

    def mask_dead(self):
        self.acts.append(("mask_dead",))

    def share(self, shared):
        self.acts.append(("share", *shared))
        self.weights |= shared

    def squared_gradients(self, names):
        self.acts.append(("squares", *names))
        return {name: np.ones_like(self.weights[name]) for name in names}


def phases_of(network, prune=(), quantize=(), steps_per_epoch=10):
    sections = [PruneSettings(epochs=9, **section) for section in prune]
    shares = [QuantizeSettings(epochs=9, **section) for section in quantize]
    return Phases(network, sections, shares, steps_per_epoch)


def test_events_come_at_the_first_step_that_begins_no_earlier():
    phases = phases_of(Network(), [{"sparsity": 0.5, "at": [0.25, 0.3]}], [{"bits": 1, "start": 1}])
    assert [event.step for event in phases.events] == [3, 3, 10]


def test_masks_move_before_weights_are_shared_at_the_same_step():
    network = Network()
    phases = phases_of(network, [{"sparsity": 0.5, "at": [1]}], [{"bits": 1, "start": 1}])
    phases.run_due(9)
    assert network.acts == []
    assert phases.to_come == "the last move of prune at 1 and quantize at 1"
    phases.run_due(10)
    assert network.acts == [("mask", "a", "b"), ("mask", "a", "b"), ("share", "a", "b")]
    assert (phases.words, phases.to_come) == ("shared", "")


def test_a_section_begins_with_the_zeros_of_its_time():
    network = Network()
    phases = phases_of(network, [{"amount": 0.5, "at": [1]}, {"amount": 0.5, "at": [2]}])
    phases.run_due(20)
    assert sum(np.count_nonzero(weights) for weights in network.weights.values()) == 38


def test_gradients_are_needed_until_the_last_move_of_the_criterion():
    network = Network()
    phases = phases_of(network, [{"sparsity": 0.5, "at": [1, 2], "criterion": "fisher", "only": "a"}])
    assert phases.names_with_gradients == {"a"}
    phases.run_due(10)
    assert phases.names_with_gradients == {"a"}
    phases.run_due(20)
    assert phases.names_with_gradients == set()
    assert network.acts.count(("squares", "a")) == 2


def test_dead_weights_go_with_each_move():
    network = Network()
    phases_of(network, [{"sparsity": 0.5, "at": [1, 2], "remove_dead_units": True}]).run_due(20)
    assert network.acts.count(("mask_dead",)) == 2


def test_weights_are_not_pruned_after_they_are_shared():
    sections = [{"sparsity": 0.5, "at": [2.5], "only": "a"}]
    with pytest.raises(
        UsageError, match=r"^a: prune ends at 2\.5, .* shared these weights at 2: give .* start of 3 or"
    ):
        phases_of(Network(), sections, [{"bits": 1, "start": 2}])
    phases_of(Network(), sections, [{"bits": 1, "start": 2, "only": "b"}])


def test_facts_restore_what_sections_have_counted():
    network = Network()
    section = {"sparsity": 0.75, "at": [1, 2, 3], "schedule": "uniform"}
    phases = phases_of(network, [section])
    phases.run_due(10)
    other = phases_of(network, [section])
    other.restore(phases.facts(), 11)
    assert other.words == "pruning 0.25 of 0.75"
    other.run_due(20)
    assert sum(np.count_nonzero(weights) for weights in network.weights.values()) == 75
    with pytest.raises(CheckpointError, match="does not fit these sections"):
        other.restore([{"groups": 3}], 11)
    with pytest.raises(CheckpointError, match="does not fit these sections"):
        other.restore([], 11)


def test_values_that_are_not_finite_are_not_shared():
    network = Network()
    phases = phases_of(network, quantize=[{"bits": 1, "start": 1}])
    network.weights["a"][0, 0] = np.nan
    with pytest.raises(CheckpointError, match="a holds infinities or NaNs"):
        phases.run_due(10)
