"""A pruning criterion of the user's own, named as package.module:function."""

import ml_dtypes
import numpy as np
import pytest

from dcomp.compression import user_criterion
from dcomp.compression.pruning import Pruning
from dcomp.errors import UsageError
from dcomp.pruning.criteria import CRITERIA, Evidence
from dcomp.settings import PruneSettings

CODE = """
import numpy as np

def smallest(weights):
    return 1 / (1 + np.abs(weights))

def as_fisher(weights, squared_gradients):
    return np.abs(weights) * np.sqrt(squared_gradients)

def scaled(weights, scale=2.0):
    return np.abs(weights) * scale

def short(weights):
    return np.abs(weights)[:1]

def not_finite(weights):
    return weights * np.nan

def negative(weights):
    return -np.abs(weights)

def text(weights):
    return np.full(weights.shape, "x")

def failing(weights):
    raise KeyError("no such layer")

def changing(weights):
    weights[:] = 0
    return weights

def three(weights, gradients, more):
    return weights

number = 3
"""


@pytest.fixture(autouse=True)
def user_code(tmp_path, monkeypatch):
    """A module of criteria in the current folder."""
    (tmp_path / "my_criteria.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def pruned(checkpoint, name, **settings):
    return Pruning(checkpoint.tensors, PruneSettings(sparsity=0.5, criterion=name, **settings)).at_once()


def test_the_weights_with_the_largest_scores_are_kept(lenet_like):
    arrays = pruned(lenet_like, "my_criteria:smallest").values()
    before = np.concatenate([lenet_like.tensors[f"fc{number}.weight"].ravel() for number in (1, 2, 3)])
    kept = np.concatenate([array.ravel() for array in arrays])
    assert np.count_nonzero(kept) == before.size // 2
    assert np.abs(kept).max() <= np.median(np.abs(before))


@pytest.mark.parametrize("name", ["my_criteria:scaled", "numpy:abs"])
def test_a_function_of_one_argument_without_a_default_needs_no_gradients(name, lenet_like):
    by_magnitude = pruned(lenet_like, "magnitude")
    assert all(np.array_equal(array, by_magnitude[key]) for key, array in pruned(lenet_like, name).items())


def test_a_second_argument_takes_squared_gradients(rng, lenet_like):
    criterion = user_criterion.find("my_criteria:as_fisher")
    evidence = Evidence(rng.normal(size=(4, 3)).astype(np.float32), squared_gradients=rng.random((4, 3)))
    assert np.array_equal(criterion.scores(evidence), CRITERIA["fisher"].scores(evidence))
    with pytest.raises(UsageError, match=r"criterion my_criteria:as_fisher needs gradients while .*: give epochs"):
        pruned(lenet_like, "my_criteria:as_fisher")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("short", r"returns shape \(1, 2\) for weights of shape \(3, 2\): return one score for each weight, 0 or more"),
        ("not_finite", "returns values that are not finite"),
        ("negative", "returns negative values"),
        ("text", "returns values of type <U1, which are no real numbers"),
        ("failing", "cannot use criterion my_criteria:failing: KeyError: 'no such layer'"),
        ("changing", "cannot use criterion my_criteria:changing: ValueError: .*read-only"),
        ("three", "should be a function of the weights, or .* squared gradients, not of 3 arguments"),
        ("number", "should be a function of the weights, or .* squared gradients, and is none"),
        ("absent", "cannot use criterion my_criteria:absent: AttributeError"),
    ],
)
def test_a_function_that_is_no_criterion_is_one_clear_error(name, message):
    with pytest.raises(UsageError, match=message):
        user_criterion.find(f"my_criteria:{name}").scores(Evidence(np.ones((3, 2), np.float32)))


def test_zeros_score_zero_whatever_the_function_says():
    scores = user_criterion.find("my_criteria:smallest").scores(Evidence(np.array([0.0, 1.0])))
    assert scores.tolist() == [0, 0.5]


def test_a_function_gets_single_precision_at_least():
    assert user_criterion.find("my_criteria:scaled").scores(Evidence(np.ones(2, ml_dtypes.bfloat16))).dtype == "float32"
    assert user_criterion.find("my_criteria:scaled").scores(Evidence(np.ones(2))).dtype == "float64"


@pytest.mark.parametrize("more", [{"structure": "row"}, {"epochs": 2, "structure": "row"}])
def test_it_ranks_single_weights(lenet_like, more):
    with pytest.raises(UsageError, match="criterion my_criteria:scaled cannot rank rows"):
        pruned(lenet_like, "my_criteria:scaled", **more)


def test_the_command_line_takes_it_with_and_without_epochs(dense_file, dcomp):
    assert dcomp("prune", dense_file, "--sparsity", "0.5", "--criterion", "my_criteria:smallest")[0] == 0
    training = ["--data", "digits", "--epochs", "1", "--until", "0", "--batch-size", "1500"]
    named = ["--criterion", "my_criteria:as_fisher", "-o", "b.safetensors"]
    assert dcomp("prune", dense_file, "--sparsity", "0.5", *training, *named)[0] == 0


def test_a_recipe_with_a_criterion_that_is_absent_is_refused_before_it_trains(tmp_path, dcomp):
    (tmp_path / "r.yaml").write_text(
        "name: r\ndata: digits\ntrain: {architecture: lenet300, epochs: 1}\n"
        "prune: {sparsity: 0.5, criterion: 'my_criteria:absent'}\n"
    )
    code, _, err = dcomp("run", tmp_path / "r.yaml")
    assert code == 2
    assert "error: prune: cannot use criterion my_criteria:absent: AttributeError" in err
    assert "train: running" not in err
