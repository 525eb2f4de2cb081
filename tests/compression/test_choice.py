import numpy as np
import pytest

from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.compression import choice
from dcomp.compression.pruning import Pruning
from dcomp.compression.sharing import Sharing
from dcomp.errors import CheckpointError, UsageError
from dcomp.progress.observer import Observer
from dcomp.settings import PruneSettings, QuantizeSettings

NETWORK = {"words": "words", "fc": "fc", "out": "words", "mask": None}


@pytest.fixture
def tied(rng):
    """A checkpoint that holds one matrix under two names."""
    words = rng.normal(size=(20, 10)).astype(np.float32)
    return Checkpoint({"words": words, "fc": rng.normal(size=(10, 10)).astype(np.float32), "out": words.copy()})


@pytest.fixture
def masked(tied):
    """One that also holds a buffer."""
    return tied.replaced({"mask": np.full((10, 10), -np.inf, np.float32)})


def at_once(checkpoint, network=None, **settings):
    return Pruning(checkpoint.tensors, PruneSettings(**settings), network).at_once()


def zeros(array):
    return int((array == 0).sum())


@pytest.mark.parametrize("network", [None, NETWORK])
@pytest.mark.parametrize("criterion", ["magnitude", "random"])
def test_tied_weights_are_pruned_alike_and_counted_once(tied, criterion, network):
    pruned = at_once(tied, network, count=123, criterion=criterion)
    assert pruned["words"].tobytes() == pruned["out"].tobytes()
    assert zeros(pruned["words"]) + zeros(pruned["fc"]) == 123
    assert zeros(pruned["words"]) not in (0, 123)


@pytest.mark.parametrize("name", ["words", "out"])
def test_tied_weights_match_by_either_name(tied, name):
    pruned = at_once(tied, sparsity=0.1, layer=f"{name}=0.5")
    assert {key: zeros(array) for key, array in pruned.items()} == {"words": 100, "fc": 10, "out": 100}
    assert list(at_once(tied, sparsity=0.5, only=name)) == ["words", "out"]
    assert list(at_once(tied, sparsity=0.5, skip=name)) == ["fc"]


def test_tied_weights_share_one_codebook(tied):
    settings = QuantizeSettings(fc_bits=5, bits="out=2", init="random")
    sharing = Sharing(tied.tensors, settings, Observer())
    assert sharing.bits == {("words", "out"): 2, ("fc",): 5}
    shared = sharing.at_once(tied.tensors, Observer())
    assert np.array_equal(shared["words"], shared["out"])
    assert np.unique(shared["words"]).size == 4


@pytest.mark.parametrize(
    "other",
    [
        lambda words: words.astype(np.float64),
        lambda words: words.reshape(10, 20),
        lambda words: words + np.float32(1e-6),
    ],
    ids=["dtype", "shape", "bits"],
)
def test_weights_that_differ_are_not_tied(tied, other):
    chosen = choice.Choice(
        tied.replaced({"out": other(tied.tensors["words"])}).tensors,
        ("linear",),
        PruneSettings(sparsity=0.5),
        "weights",
    )
    assert chosen.aliases == [("words",), ("fc",), ("out",)]


def test_tensors_of_one_value_are_not_tied(lenet_like):
    ones = lenet_like.replaced({"a.bias": np.ones(300, np.float32), "b.bias": np.ones(300, np.float32)})
    pruned = at_once(ones, count=3, kinds="bias", scope="layer")
    assert [zeros(array) for array in pruned.values()] == [3] * 5
    aliases = choice.Choice(ones.tensors, ("bias",), PruneSettings(sparsity=0.5), "weights").aliases
    assert aliases == [("fc1.bias",), ("fc2.bias",), ("fc3.bias",), ("a.bias",), ("b.bias",)]


@pytest.mark.parametrize("value", [0, 1, -2.5])
def test_equal_tensors_of_one_value_are_not_tied(value):
    alike = {name: np.full((4, 5), value, np.float32) for name in ("a", "b")}
    assert choice.Choice(alike, ("linear",), PruneSettings(sparsity=0.5), "weights").aliases == [("a",), ("b",)]


@pytest.mark.parametrize("first", [-9, 0, 9])
def test_equal_tensors_are_tied_wherever_their_smallest_value_is(rng, first):
    weights = rng.choice(np.array([-1, 1], np.float32), (4, 5))
    weights[0, 0] = first
    alike = {"a": weights, "b": weights.copy()}
    assert choice.Choice(alike, ("linear",), PruneSettings(sparsity=0.5), "weights").aliases == [("a", "b")]


@pytest.mark.parametrize(("last", "chosen"), [(1, [("words",), ("fc",), ("out",)]), (2, [("words", "out"), ("fc",)])])
def test_equal_tensors_of_several_values_are_tied(tied, last, chosen):
    words = np.ones((20, 10), np.float32)
    words[-1, -1] = last
    alike = tied.replaced({"words": words, "out": words.copy()})
    assert choice.Choice(alike.tensors, ("linear",), PruneSettings(sparsity=0.5), "weights").aliases == chosen


def test_equal_weights_are_not_tied_where_the_network_has_two(tied):
    network = {name: name for name in tied.tensors}
    assert Sharing(tied.tensors, QuantizeSettings(fc_bits=3), Observer(), network).bits.keys() == {
        ("words",),
        ("fc",),
        ("out",),
    }


def test_buffers_of_a_network_are_neither_chosen_nor_counted(masked):
    pruned = at_once(masked, NETWORK, count=100)
    assert sum(zeros(pruned[name]) for name in ("words", "fc")) == 100
    assert pruned.keys() == {"words", "fc", "out"}
    assert choice.weights(masked.tensors, NETWORK).keys() == {"words", "fc"}
    with pytest.raises(CheckpointError, match="mask holds infinities"):
        at_once(masked, count=100)
    with pytest.raises(UsageError, match="the checkpoint has no conv or linear weights"):
        at_once(Checkpoint({"mask": masked.tensors["mask"]}), NETWORK, sparsity=0.5)


def test_a_named_buffer_is_noted(masked):
    for named in ({"layer": "mask=0.9"}, {"only": ["mask", "fc"]}):
        pruning = Pruning(masked.tensors, PruneSettings(sparsity=0.5, **named), NETWORK)
        told = next(pruning.notes(masked.replaced(pruning.at_once()).tensors))
        assert told == "mask: a buffer of the network does not train, and is not changed"
    pruning = Pruning(masked.tensors, PruneSettings(sparsity=0.5), NETWORK)
    assert not any("mask" in note for note in pruning.notes(masked.tensors))


def planned(checkpoint, *plan, **settings):
    return at_once(checkpoint, plan=plan, **settings)


def test_a_plan_may_speak_of_tensors_that_are_not_chosen(tied):
    plan = "^words$=0.5", "^fc$=0.2"
    assert {name: zeros(array) for name, array in planned(tied, *plan, only="fc").items()} == {"fc": 20}
    assert {name: zeros(array) for name, array in planned(tied, *plan, skip="fc").items()} == {"words": 100, "out": 100}
    bits = Sharing(tied.tensors, QuantizeSettings(plan=("words=3", "fc=4"), only="fc"), Observer()).bits
    assert bits == {("fc",): 4}


def test_rules_for_absent_tensors_are_refused(tied):
    with pytest.raises(UsageError, match=r"no layer matches '\^conv\$'; there are words, out, fc"):
        planned(tied, "^conv$=0.5", sparsity=0.5)
    with pytest.raises(UsageError, match="no layer matches 'words'; there are fc"):
        at_once(tied, sparsity=0.5, layer="words=0.5", only="fc")


def test_a_plan_that_asks_nothing_of_what_is_chosen_is_refused(tied):
    with pytest.raises(
        UsageError, match=r"no amount is given for fc, where plan and layer name others: give a sparsity, like 0\.9"
    ):
        planned(tied, "words=0.5", only="fc")
    with pytest.raises(UsageError, match="no bits are given for fc: give conv_bits"):
        Sharing(tied.tensors, QuantizeSettings(plan=("words=3",), only="fc"), Observer())


def test_the_weights_of_a_network_are_conv_and_linear(tied):
    network = {**NETWORK, "bias": "bias"}
    more = tied.replaced({"bias": np.ones(10, np.float32), "mask": np.ones((2, 2), np.float32)})
    assert list(choice.weights(more.tensors, network)) == ["words", "fc"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(value):
    with pytest.raises(CheckpointError, match="b holds infinities or NaNs"):
        choice.check_finite({"a": np.ones(3), "b": np.array([1, value])})


def test_what_is_given_by_first_name_holds_for_all_names(tied):
    chosen = choice.Choice(tied.tensors, ("linear",), PruneSettings(sparsity=0.5), "weights")
    assert chosen.under_all_names({"words": 3}) == {"words": 3, "out": 3}
    assert chosen.values() == {}


def bits_found(checkpoint, **settings):
    found = Sharing(checkpoint.tensors, QuantizeSettings(**settings), Observer()).bits
    return {names[0]: bits for names, bits in found.items()}


@pytest.fixture
def mixed(tied, rng):
    """One with a convolution, a bias, and a bias that a rule may name."""
    return tied.replaced({"conv": rng.normal(size=(2, 2, 3, 3)), "b": rng.normal(size=9)})


def test_a_number_of_bits_alone_means_every_layer(mixed):
    for number in ("5", 5, [5], ("5",)):
        assert bits_found(mixed, bits=number) == {"words": 5, "fc": 5, "conv": 5}


def test_one_number_of_bits_is_the_default_for_all_layers(mixed):
    assert bits_found(mixed, bits=["5", "fc=2"], conv_bits=8, bias_bits=3) == {"conv": 8, "b": 3, "words": 5, "fc": 2}
    assert bits_found(mixed, bits=["5"], skip="fc") == {"words": 5, "conv": 5}


@pytest.mark.parametrize(
    ("bits", "message"),
    [(["5", "4"], "given once"), (["5", "auto"], "given once"), ("0", "from 1 to 16"), (17, "from 1")],
)
def test_bits_of_all_layers_are_one_number_from_1_to_16(bits, message):
    with pytest.raises(ValueError, match=message):
        QuantizeSettings(bits=bits)
