import io

import numpy as np
import pytest
import torch

from dcomp import stages
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.compression.byte_budget import ByteBudget
from dcomp.compression.pruning import Pruning
from dcomp.errors import UsageError
from dcomp.learning import architectures, paths
from dcomp.pruning.criteria.magnitude import absolute
from dcomp.settings import PruneSettings, QuantizeSettings, TrainSettings

NAMES = ["fc1.weight", "fc2.weight", "fc3.weight"]


def masks_of(checkpoint, ratio, names=NAMES, code_bits=4):
    budget = ByteBudget(checkpoint.tensors, [(name,) for name in names], ratio, code_bits)
    weights = {name: checkpoint.tensors[name] for name in names}
    return budget.masks(weights, budget.sparsity, lambda name, array: absolute(array))


@pytest.mark.parametrize("ratio", [20, 80, 200])
def test_the_file_comes_to_the_ratio_asked_for_and_not_much_more(lenet_like, ratio):
    settings = PruneSettings(target_ratio=ratio, code_bits=4)
    pruned = stages.prune(lenet_like, settings)
    shared = stages.quantize(pruned, QuantizeSettings(fc_bits=4, provenance="none"))
    file = io.BytesIO()
    stages.encode(shared, file)
    assert 0.98 * ratio < 1_066_440 / len(file.getvalue()) < 1.15 * ratio  # codes take less than their bits


def test_what_is_kept_is_as_it_was(lenet_like):
    pruned = stages.prune(lenet_like, PruneSettings(target_ratio=50))
    for name, array in lenet_like.tensors.items():
        kept = pruned.tensors[name] != 0
        assert np.array_equal(pruned.tensors[name][kept], array[kept])
        assert kept.all() or name in NAMES


def test_dense_columns_keep_smaller_weights(lenet_like):
    crowded = lenet_like.tensors["fc1.weight"]
    crowded[:, :40] *= 3
    masks = masks_of(lenet_like, 100)
    least = [np.abs(part[kept]).min() for part, kept in zip(*parts_of(crowded, masks["fc1.weight"]), strict=True)]
    assert least[0] < 0.9 * least[1]


def parts_of(array, mask):
    return (array[:, :40], array[:, 40:]), (mask[:, :40], mask[:, 40:])


def test_a_ratio_that_other_tensors_forbid_is_refused(lenet_like):
    with pytest.raises(UsageError, match=r"leaves 1,066 bytes.*prune biases too"):
        ByteBudget(lenet_like.tensors, [(name,) for name in NAMES], 1000, 5)


def test_weights_that_take_less_already_stay_as_they_are(lenet_like):
    pruned = stages.prune(lenet_like, PruneSettings(sparsity=0.99))
    pruning = Pruning(pruned.tensors, PruneSettings(target_ratio=20))
    again = pruned.replaced(pruning.at_once())
    assert all(np.array_equal(again.tensors[name], pruned.tensors[name]) for name in NAMES)
    assert any("none was pruned" in note for note in pruning.notes(again.tensors))


def test_tied_weights_pay_for_one_codebook(lenet_like):
    weights = lenet_like.tensors["fc2.weight"]
    one = ByteBudget({"a": weights}, [("a",)], 20, 5)
    tied = ByteBudget({"a": weights, "b": weights}, [("a", "b")], 20, 5)
    found = {"a": weights != 0}
    taken = [(1 - budget.sparsity_of(found)) * dense for budget, dense in ((one, 120_000), (tied, 240_000))]
    assert taken[1] - taken[0] < 2**5 * 4


def test_where_nothing_is_worth_anything_all_is_pruned():
    pruning = Pruning({"weight": np.zeros((100, 50), np.float32)}, PruneSettings(target_ratio=50))
    assert not pruning.at_once()["weight"].any()


def test_retraining_for_bytes_reaches_them_and_leaves_no_dead_unit():
    data = {"data": "digits", "device": "cpu", "batch_size": 256, "provenance": "none"}
    dense = stages.train(TrainSettings(architecture="lenet5", epochs=2, **data))
    settings = PruneSettings(
        target_ratio=100,
        code_bits=4,
        criterion="fisher",
        kinds="conv,linear,bias",
        remove_dead_units=True,
        epochs=3,
        until=2,
        optimizer="adam",
        lr=0.002,
        **data,
    )
    pruned = stages.prune(dense, settings)
    file = io.BytesIO()
    shared = stages.quantize(pruned, QuantizeSettings(conv_bits=4, fc_bits=4, bias_bits=4, provenance="none"))
    stages.encode(shared, file)
    assert 0.95 * 100 < 1_724_320 / len(file.getvalue()) < 1.35 * 100
    model = architectures.build("lenet5", {"classes": 10, "grayscale": True})
    architectures.load_into(model, pruned, "lenet5")
    alive = paths.alive(model, torch.zeros(1, 1, 28, 28))
    assert not any((pruned.tensors[name][~mask] != 0).any() for name, mask in alive.items())
    assert not all(mask.all() for mask in alive.values())


def file_size(tensors):
    file = io.BytesIO()
    stages.encode(Checkpoint(tensors, {}), file)
    return len(file.getvalue())


def test_the_bytes_of_masks_are_those_of_the_encoded_file(rng):
    tensors = {"w": rng.normal(size=(100, 200)).astype(np.float32), "bias": rng.normal(size=100).astype(np.float32)}
    budget = ByteBudget(tensors, [("w",)], 20, 4)
    mask = rng.random((100, 200)) < 0.1
    found = (1 - budget.sparsity_of({"w": mask})) * (80_000 + 400)
    shared = {"w": np.where(mask, rng.choice(np.arange(1, 17, dtype=np.float32), mask.shape), 0)}
    assert found == pytest.approx(file_size({**tensors, **shared}), rel=0.02)
    nothing = (1 - budget.sparsity_of({"w": np.zeros_like(mask)})) * 80_400
    assert nothing == pytest.approx(file_size({**tensors, "w": np.zeros_like(tensors["w"])}) + 16 * 4)


def test_a_codebook_has_no_more_values_than_its_tensor():
    small = {"w": np.ones((2, 3), np.float32), "other": np.zeros(500, np.float32)}
    budgets = [ByteBudget(small, [("w",)], 2, bits) for bits in (3, 8)]
    masks = {"w": np.zeros((2, 3), bool)}
    assert budgets[0].sparsity_of(masks) == budgets[1].sparsity_of(masks)


def test_the_sparsity_of_bytes_is_what_a_ratio_leaves_out(lenet_like):
    budget = ByteBudget(lenet_like.tensors, [(name,) for name in NAMES], 40, 5)
    assert budget.sparsity == 1 - 1 / 40
    assert budget.initial_sparsity == budget.sparsity_of({name: lenet_like.tensors[name] != 0 for name in NAMES})


def test_larger_scores_are_kept_at_equal_costs(lenet_like):
    mask, weights = masks_of(lenet_like, 60)["fc1.weight"], np.abs(lenet_like.tensors["fc1.weight"])
    assert weights[mask].min() > 0.75 * weights[~mask].max()


def test_positions_count_in_the_cheaper_order(rng):
    runs = np.repeat(rng.random((10, 200)) < 0.2, 20, axis=0)
    for mask in (runs, runs.T):
        budget = ByteBudget({"w": rng.normal(size=mask.shape).astype(np.float32)}, [("w",)], 10, 4)
        zeros = {"w": np.zeros_like(mask)}
        bits = 8 * (budget.sparsity_of(zeros) - budget.sparsity_of({"w": mask})) * 4 * mask.size
        assert bits < (4 + 1.5) * mask.sum()  # about a bit for each, where the other order takes three and a half
