import pytest

from dcomp.learning.fit_plan import first_step


@pytest.mark.parametrize(
    ("time", "steps_per_epoch", "step"), [(0, 30, 0), (0.1, 30, 3), (0.25, 10, 3), (0.7, 10, 7), (2, 5, 10)]
)
def test_the_first_step_begins_no_earlier_than_its_time_however_the_product_rounds(time, steps_per_epoch, step):
    assert first_step(time, steps_per_epoch) == step
