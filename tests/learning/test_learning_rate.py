import pytest
import torch
from torch import nn

from dcomp.learning.learning_rate import LearningRate
from dcomp.learning.optimizers import make_optimizer
from dcomp.settings import TrainSettings

STEPS = 10  # an epoch


def settings(**changes):
    return TrainSettings(architecture="lenet5", data="digits", **{"epochs": 10, "lr": 1.0, **changes})


def course(losses=(), **changes):
    """The learning rate of each step."""
    chosen = settings(**changes)
    optimizer = make_optimizer(nn.Linear(2, 2), chosen)
    rate = LearningRate(optimizer, chosen, chosen.epochs, STEPS)
    rates = []
    for epoch in range(chosen.epochs):
        for _ in range(STEPS):
            rates.append(rate.now)
            optimizer.step()
            rate.step()
        rate.end_epoch(losses[epoch] if losses else 0.0)
    return rates


def test_a_warm_up_rises_to_the_rate_and_the_schedule_follows_it():
    rates = course(lr_schedule="cosine", warmup=2)
    assert rates[:20] == pytest.approx([(step + 1) / 21 for step in range(20)])
    assert rates[20:] == pytest.approx(torch.tensor(course(lr_schedule="cosine", epochs=8)).tolist())
    assert course(lr_schedule="constant", warmup=0.5)[5:] == [1.0] * 95


def test_step_divides_by_ten_at_one_half_and_at_three_quarters():
    rates = course(lr_schedule="step")
    assert [rates[step] for step in (0, 49, 50, 74, 75, 99)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(("warmup", "peak"), [(0, 30), (5, 50)])
def test_one_cycle_rises_during_the_warm_up_and_falls_to_almost_zero(warmup, peak):
    rates = course(lr_schedule="one-cycle", warmup=warmup)
    assert rates[0] == pytest.approx(0.04)
    assert max(rates) == rates[peak] == pytest.approx(1)
    assert sorted(rates[:peak]) == rates[:peak]
    assert rates[-1] < 0.001


def test_plateau_divides_by_ten_after_its_patience():
    rates = course(losses=[9, 8, 7, 7, 7, 7, 6, 6, 6, 6], lr_schedule="plateau", patience=2, warmup=1)
    assert rates[9] < 1
    assert rates[10:60] == pytest.approx([1.0] * 50)
    assert rates[60:] == pytest.approx([0.1] * 40)
