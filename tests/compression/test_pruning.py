import numpy as np
import pytest

from dcomp.compression.pruning import Pruning
from dcomp.errors import UsageError
from dcomp.settings import PruneSettings


def zeros(array):
    return int((array == 0).sum())


def at_once(checkpoint, **settings):
    return Pruning(checkpoint.tensors, PruneSettings(**settings)).at_once()


def test_a_count_of_weights_becomes_zero(lenet_like):
    assert sum(map(zeros, at_once(lenet_like, count=12_345).values())) == 12_345
    pruned = at_once(lenet_like, count=100, scope="layer", layer="fc2=7")
    assert [zeros(array) for array in pruned.values()] == [100, 7, 100]


def test_an_amount_takes_its_fraction_of_what_is_left_each_time(lenet_like):
    once = lenet_like.replaced(at_once(lenet_like, amount=0.5))
    assert sum(map(zeros, at_once(once, amount=0.5).values())) == round(266_200 * 0.75)


def test_only_and_skip_choose_layers_by_name(lenet_like):
    assert list(at_once(lenet_like, sparsity=0.5, only="fc1|fc3", skip=["^fc3"])) == ["fc1.weight"]
    assert list(at_once(lenet_like, sparsity=0.5, kinds="linear,bias", only="bias")) == [
        "fc1.bias",
        "fc2.bias",
        "fc3.bias",
    ]
    with pytest.raises(UsageError, match=r"only and skip choose none of the layers fc1\.weight"):
        at_once(lenet_like, sparsity=0.5, skip="fc")
    with pytest.raises(UsageError, match="no layer matches 'conv'; there are fc1"):
        at_once(lenet_like, sparsity=0.5, only="conv")


@pytest.mark.parametrize("criterion", ["magnitude", "random"])
def test_whole_rows_become_zero(lenet_like, criterion):
    pruned = at_once(lenet_like, sparsity=0.35, structure="row", scope="layer", criterion=criterion)
    for name, array in pruned.items():
        rows = (array == 0).all(axis=1)
        assert rows.sum() == round(len(array) * 0.35)
        assert np.array_equal(array[~rows], lenet_like.tensors[name][~rows])


def test_rows_that_are_asked_for_again_are_not_called_too_many(lenet_like):
    settings = PruneSettings(sparsity=0.27, structure="row", scope="layer")
    once = lenet_like.replaced(Pruning(lenet_like.tensors, settings).at_once())
    again = Pruning(once.tensors, settings)
    assert not any("zero already" in note for note in again.notes(once.replaced(again.at_once()).tensors))


RETRAINING = {"epochs": 6, "data": "digits"}


def test_each_move_of_an_amount_takes_its_part_of_the_rest(lenet_like):
    pruning = Pruning(lenet_like.tensors, PruneSettings(amount=0.5, at=[1, 2.5, 4], **RETRAINING))
    found = []
    for move in pruning.moves:
        masks = pruning.masks_at(move, lenet_like.tensors)
        found.append(sum(int(mask.sum()) for mask in masks.values()))
    assert found == [133_100, 66_550, 33_275]
    assert pruning.moves == [1, 2.5, 4]


def test_moves_of_an_amount_may_be_given_by_start_until_and_every(lenet_like):
    settings = PruneSettings(amount=0.5, start=1, until=3, **RETRAINING)
    pruning = Pruning(lenet_like.tensors, settings)
    kept = [sum(m.sum() for m in pruning.masks_at(move, lenet_like.tensors).values()) for move in pruning.moves]
    assert kept == [133_100, 66_550, 33_275]


def test_a_threshold_counts_in_deviations_of_the_first_weights(lenet_like):
    settings = PruneSettings(criterion="std", threshold=1.0, schedule="oneshot", **RETRAINING)
    pruning = Pruning(lenet_like.tensors, settings)
    later = {name: lenet_like.tensors[name] * 2 for name in pruning.names}
    masks = pruning.masks_at(0.0, later)
    for name, mask in masks.items():
        deviation = lenet_like.tensors[name].std(dtype=np.float64)
        assert np.array_equal(mask, np.abs(later[name]) >= deviation)


def test_weights_that_a_threshold_has_pruned_do_not_raise_it(lenet_like):
    pruning = Pruning(lenet_like.tensors, PruneSettings(criterion="std", threshold=1.0, at=[1, 2], **RETRAINING))
    first = pruning.masks_at(2, {name: lenet_like.tensors[name] for name in pruning.names})
    held = {name: np.where(mask, lenet_like.tensors[name], 0) for name, mask in first.items()}
    second = pruning.masks_at(2, held)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_at_once_a_schedule_comes_to_its_end(lenet_like):
    settings = PruneSettings(sparsity=0.5, schedule="gradual", until=3, **RETRAINING)
    assert sum(map(zeros, Pruning(lenet_like.tensors, settings).at_once().values())) == 133_100


def rows(array):
    return int((array.reshape(len(array), -1) != 0).any(axis=1).sum())


def test_rows_are_pruned_by_layer_except_those_of_the_output(lenet_like):
    pruning = Pruning(lenet_like.tensors, PruneSettings(sparsity=0.5, structure="row"))
    pruned = pruning.at_once()
    assert {name: rows(array) for name, array in pruned.items()} == {"fc1.weight": 150, "fc2.weight": 50}
    told = list(pruning.notes(lenet_like.replaced(pruned).tensors))
    assert told[0] == "fc3.weight: the output layer, whose rows are classes, is not pruned unless it is named"


@pytest.mark.parametrize("named", [{"only": "fc3"}, {"layer": "fc3=0.5"}, {"only": ["fc1", "fc3"]}])
def test_rows_of_the_output_layer_are_pruned_if_it_is_named(lenet_like, named):
    pruning = Pruning(lenet_like.tensors, PruneSettings(sparsity=0.5, structure="row", **named))
    assert rows(pruning.at_once()["fc3.weight"]) == 5
    assert not any("output layer" in note for note in pruning.notes(lenet_like.tensors))


def test_without_the_output_layer_something_must_be_left(lenet_like):
    with pytest.raises(
        UsageError, match=r"fc3.weight is the output layer, whose rows are classes: to prune it, name it"
    ):
        Pruning(lenet_like.tensors, PruneSettings(sparsity=0.5, structure="row", skip=["fc1", "fc2"]))
    alone = Pruning(lenet_like.tensors, PruneSettings(sparsity=0.5, structure="row", skip="fc3"))
    assert alone.names == ["fc1.weight", "fc2.weight"]
    assert not any("output layer" in note for note in alone.notes(lenet_like.tensors))


def test_single_weights_are_pruned_in_the_output_layer_too(lenet_like):
    assert "fc3.weight" in Pruning(lenet_like.tensors, PruneSettings(sparsity=0.5)).names


def test_a_layer_that_a_common_budget_empties_is_told(lenet_like):
    small = lenet_like.replaced({"fc2.weight": lenet_like.tensors["fc2.weight"] / 1000})
    pruning = Pruning(small.tensors, PruneSettings(sparsity=0.5))
    notes = list(pruning.notes(small.replaced(pruning.at_once()).tensors))
    assert "warning: no weight is left in fc2.weight, so the network is cut: give scope layer, or layer" in notes


def test_a_sparsity_of_zero_gives_no_note_about_zeros(lenet_like):
    pruned = lenet_like.replaced(Pruning(lenet_like.tensors, PruneSettings(sparsity=0.5)).at_once())
    again = Pruning(pruned.tensors, PruneSettings(sparsity=0))
    assert not any("asked for" in note for note in again.notes(pruned.tensors))


def test_a_layer_that_was_zero_before_is_no_error(lenet_like):
    empty = lenet_like.replaced({"fc2.weight": np.zeros((100, 300), np.float32)})
    assert Pruning(empty.tensors, PruneSettings(sparsity=0.5, scope="layer")).at_once().keys() >= {"fc2.weight"}


def test_moves_begin_with_the_sparsity_that_is_there(lenet_like):
    half = lenet_like.replaced(Pruning(lenet_like.tensors, PruneSettings(sparsity=0.5)).at_once())
    pruning = Pruning(half.tensors, PruneSettings(sparsity=0.9, epochs=4, until=2, data="digits"))
    first, *_, last = pruning.moves
    for move, sparsity in ((first, 0.5), (last, 0.9)):
        masks = pruning.masks_at(move, {name: half.tensors[name] for name in pruning.names})
        assert sum(int((~mask).sum()) for mask in masks.values()) == round(266_200 * sparsity)


def test_single_weights_are_counted_where_no_rows_are_asked_for(lenet_like):
    few = lenet_like.replaced({"fc3.weight": np.eye(10, 100, dtype=np.float32)})
    told = list(Pruning(few.tensors, PruneSettings(sparsity=0.5, only="fc3")).notes(few.tensors))
    assert told[0] == "fc3.weight: sparsity 0.9900, 10 of 1,000 weights kept"
    assert told[1] == "sparsity 0.5 was asked for, but more weights than that were zero already"


def test_random_pruning_prunes_zeros_first(lenet_like):
    pruning = Pruning(lenet_like.tensors, PruneSettings(criterion="random", sparsity=0.5, at=[1, 2], **RETRAINING))
    now = {name: lenet_like.tensors[name].copy() for name in pruning.names}
    for array in now.values():
        array.reshape(-1)[::2] = 0
    masks = pruning.masks_at(2, now)
    assert all(np.array_equal(mask, now[name] != 0) for name, mask in masks.items())


def test_an_amount_in_one_shot_ends_at_its_cap(lenet_like):
    assert sum(map(zeros, at_once(lenet_like, amount=0.5, sparsity=0.3).values())) == round(266_200 * 0.3)
    assert sum(map(zeros, at_once(lenet_like, amount=0.2, sparsity=0.3).values())) == round(266_200 * 0.2)


def test_the_best_epoch_may_follow_the_move_that_reaches_the_cap(lenet_like):
    pruning = Pruning(lenet_like.tensors, PruneSettings(amount=0.5, sparsity=0.6, at=[0, 1, 2, 3], **RETRAINING))
    assert pruning.moves == [0, 1]
