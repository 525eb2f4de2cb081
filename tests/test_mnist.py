"""The real data, briefly: what a few epochs must reach."""

import numpy as np

from dcomp import stages
from dcomp.settings import EvalSettings, PruneSettings, QuantizeSettings, TrainSettings


def test_lenet300_learns_mnist_and_survives_pruning_and_sharing(mnist_dir):
    data = {"data": "mnist", "data_dir": mnist_dir, "batch_size": 128}
    dense = stages.train(TrainSettings(architecture="lenet300", epochs=1, lr=0.1, **data))
    pruned = stages.prune(dense, PruneSettings(sparsity=0.9, epochs=2, until=1, every=0.25, lr=0.1, **data))
    shared = stages.quantize(pruned, QuantizeSettings(fc_bits=5))
    judged = EvalSettings(data="mnist", data_dir=mnist_dir)
    assert stages.evaluate(dense, judged).judged < 6
    assert stages.evaluate(shared, judged).judged < 4
    weights = shared.tensors["fc1.weight"]
    assert np.unique(weights[weights != 0]).size <= 32
