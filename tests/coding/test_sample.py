import numpy as np

from dcomp.coding import tuning
from dcomp.coding.sample import sampled


def test_a_sample_reaches_from_first_to_last():
    few = np.arange(tuning.SAMPLE_SIZE)
    assert sampled(few) is few
    many = np.arange(10 * tuning.SAMPLE_SIZE)
    sample = sampled(many)
    assert (sample.size, sample[0], sample[-1]) == (tuning.SAMPLE_SIZE, 0, many[-1])
    assert np.count_nonzero(np.diff(sample) != 1) == tuning.SAMPLE_PARTS - 1
