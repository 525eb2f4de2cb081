import ml_dtypes
import numpy as np
import pytest

from dcomp.compression.pruning import Pruning
from dcomp.errors import UsageError
from dcomp.pruning.criteria import CRITERIA, Criterion, Evidence
from dcomp.pruning.criteria.magnitude import absolute, row_norm
from dcomp.settings import PruneSettings


@pytest.mark.parametrize("name", [*CRITERIA, "package.my_module:function"])
def test_settings_take_the_names_of_the_table_and_of_functions(name):
    given = {"threshold": 1.0} if name == "std" else {"sparsity": 0.5, "epochs": 2}
    assert PruneSettings(criterion=name, **given).criterion == name


@pytest.mark.parametrize("name", ["magnitud", "package.module:function", "Magnitude", "a:b:c", ":f", "m:"])
def test_settings_refuse_other_names(name):
    with pytest.raises(UsageError, match=rf"there is no criterion '{name}'; .*magnitude, fisher, std, random, package"):
        PruneSettings.from_options(criterion=name, sparsity=0.5)


def smallest(evidence):
    return 1 / absolute(evidence.weights)


def test_a_criterion_in_the_table_prunes(lenet_like, monkeypatch):
    monkeypatch.setitem(CRITERIA, "smallest", Criterion(smallest))
    settings = PruneSettings(sparsity=0.5, criterion="smallest")
    pruned = Pruning(lenet_like.tensors, settings).at_once()
    kept = np.concatenate([array.ravel() for array in pruned.values()])
    before = np.concatenate([lenet_like.tensors[name].ravel() for name in pruned])
    assert np.abs(kept).max() <= np.median(np.abs(before))


@pytest.mark.parametrize(("name", "granularity"), [(name, g) for name in CRITERIA for g in CRITERIA[name].granularity])
def test_each_criterion_scores_zeros_zero_and_the_rest_above(rng, name, granularity):
    criterion = CRITERIA[name]
    weights = rng.normal(size=(6, 4, 3)).astype(np.float32)
    weights[::2] = 0
    shape = weights.shape if granularity == "weight" else (6, 1, 1)
    scores = criterion.scores(Evidence(weights, granularity, np.ones_like(weights), 1 - rng.random(shape)))
    assert scores.shape == shape
    assert ((scores > 0) == (weights != 0)[tuple(map(slice, shape))]).all()


def test_fisher_is_magnitude_where_all_gradients_are_one(rng):
    weights = rng.normal(size=(5, 4)).astype(np.float32)
    evidence = Evidence(weights, squared_gradients=np.ones_like(weights))
    assert np.array_equal(CRITERIA["fisher"].scores(evidence), CRITERIA["magnitude"].scores(evidence))


def test_a_criterion_refuses_a_structure_that_it_cannot_rank(lenet_like, monkeypatch):
    monkeypatch.setitem(CRITERIA, "smallest", Criterion(smallest))
    by_row = PruneSettings(sparsity=0.5, structure="row", criterion="smallest")
    with pytest.raises(UsageError, match="criterion smallest cannot rank rows"):
        Pruning(lenet_like.tensors, by_row)
    at_once = PruneSettings(sparsity=0.5).model_copy(update={"criterion": "fisher"})
    with pytest.raises(UsageError, match="criterion fisher needs gradients while the network retrains: give epochs"):
        Pruning(lenet_like.tensors, at_once)


@pytest.mark.parametrize("shape", [(5,), (5, 7), (5, 3, 2, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16])
def test_a_row_scores_its_norm(rng, shape, dtype):
    weights = rng.normal(size=shape).astype(dtype)
    norms = row_norm(weights)
    assert norms.shape == (5, *[1] * (len(shape) - 1))
    expected = np.linalg.norm(weights.astype(np.float64).reshape(5, -1), axis=1)
    assert norms.reshape(5) == pytest.approx(expected)


def test_only_rows_of_zeros_score_zero():
    rows = np.zeros((2, 3), np.float32)
    rows[1, 2] = 1e-40
    assert (row_norm(rows) != 0).ravel().tolist() == [False, True]


def test_half_size_weights_are_scored_in_single_precision():
    assert absolute(np.array([-2], ml_dtypes.bfloat16)).dtype == np.float32
    assert absolute(np.array([-2], np.float32)).dtype == np.float32
    assert absolute(np.array([-2], np.float64)).dtype == np.float64


def test_random_numbers_are_spread_over_their_range(lenet_like):
    settings = PruneSettings(sparsity=0.75, criterion="random", scope="layer")
    for name, array in Pruning(lenet_like.tensors, settings).at_once().items():
        halves = [np.count_nonzero(half) for half in np.split(array.ravel(), 2)]
        assert halves == pytest.approx([array.size / 8] * 2, rel=0.2), name
