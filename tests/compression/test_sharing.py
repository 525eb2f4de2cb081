import numpy as np
import pytest

from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.compression.sharing import AUTO_SIZE, Sharing
from dcomp.errors import UsageError
from dcomp.progress.observer import Observer
from dcomp.settings import QuantizeSettings


class Notes(Observer):
    def __init__(self):
        self.told = []

    def note(self, text):
        self.told.append(text)


@pytest.fixture
def small(rng):
    tensors = {
        "conv.weight": rng.normal(size=(6, 3, 5, 5)).astype(np.float32),
        "conv.bias": rng.normal(size=6).astype(np.float32),
        "fc.weight": rng.normal(size=(40, 30)).astype(np.float32),
    }
    return Checkpoint(tensors)


def bits_of(checkpoint, observer=None, **settings):
    return Sharing(checkpoint.tensors, QuantizeSettings(**settings), observer or Observer()).bits


def test_each_kind_has_its_bits_and_a_rule_its_tensor(small):
    assert bits_of(small, conv_bits=6, fc_bits=3) == {("conv.weight",): 6, ("fc.weight",): 3}
    assert bits_of(small, fc_bits=3, bits="conv.weight=2") == {("conv.weight",): 2, ("fc.weight",): 3}
    assert bits_of(small, bias_bits=1) == {("conv.bias",): 1}


def test_an_absent_kind_is_noted(small):
    notes = Notes()
    del small.tensors["conv.weight"]
    assert bits_of(small, notes, conv_bits=6, fc_bits=3) == {("fc.weight",): 3}
    assert notes.told == ["the checkpoint has no conv tensor to quantize"]


def test_an_empty_choice_is_an_error_that_names_it(small):
    with pytest.raises(UsageError, match="no conv tensor to quantize that only and skip choose"):
        bits_of(small, conv_bits=6, only="fc")
    with pytest.raises(UsageError, match=r"no bits are given for conv\.weight, fc\.weight: give conv_bits"):
        bits_of(small, plan=("conv.bias=3",))


def test_auto_is_for_weights_without_other_bits(small):
    found = {("conv.weight",): AUTO_SIZE, ("fc.weight",): 4}
    assert bits_of(small, bits=("auto", "fc=4")) == found
    assert bits_of(small, bits="auto", fc_bits=4) == found


def shared(checkpoint, observer=None, **settings):
    sharing = Sharing(checkpoint.tensors, QuantizeSettings(**settings), Observer())
    return sharing.at_once(checkpoint.tensors, observer or Observer())


def test_kept_weights_share_values_and_zeros_stay(small):
    small.tensors["fc.weight"][:10] = 0
    made = shared(small, fc_bits=3)
    assert list(made) == ["fc.weight"]
    assert (made["fc.weight"].dtype, made["fc.weight"].shape) == (np.float32, (40, 30))
    assert np.array_equal(made["fc.weight"] == 0, small.tensors["fc.weight"] == 0)
    assert 2 <= np.unique(made["fc.weight"][10:]).size <= 8


def test_auto_chooses_fewer_values_where_bits_cost_more(small):
    notes = Notes()
    sizes = []
    for weight in (1e-5, 0.01, 0.1):
        made = shared(small, notes, bits="auto", only="fc", rate_weight=weight)
        sizes.append(np.unique(made["fc.weight"]).size)
        assert notes.told[-1] == f"fc.weight: {sizes[-1]} shared values chosen"
    assert sizes == sorted(sizes, reverse=True)
    assert 16 < sizes[0] <= 256
    assert sizes[-1] < 12
    assert np.unique(shared(small, bits="auto", only="fc")["fc.weight"]).size == sizes[1]


def test_auto_chooses_more_values_of_half_the_bytes(rng):
    weights = {"fc": rng.normal(size=(30, 30)).astype(np.float32)}
    sizes = {
        values: np.unique(shared(Checkpoint(weights), bits="auto", rate_weight=1e-4, codebook_values=values)["fc"]).size
        for values in ("float32", "bfloat16", "float16")
    }
    assert sizes["bfloat16"] == sizes["float16"] > sizes["float32"]


def test_auto_chooses_as_many_values_for_doubles_as_for_singles(rng):
    singles = rng.normal(size=(30, 30)).astype(np.float32)
    sizes = [
        np.unique(shared(Checkpoint({"fc": weights}), bits="auto", rate_weight=1e-4)["fc"]).size
        for weights in (singles, singles.astype(np.float64))
    ]
    assert sizes[0] == sizes[1] > 16


@pytest.mark.parametrize(("kind", "step"), [("bfloat16", 2**-8), ("float16", 2**-11)])
def test_values_are_rounded_to_the_nearest_and_never_to_zero(rng, kind, step):
    array = np.concatenate([rng.normal(size=500), [0, 1e-30, -1e-30, 3e38, -3e38, 1e-42, -1e-42]]).astype(np.float32)
    tensors = {"w": array, "other": array}
    settings = QuantizeSettings(bias_bits=8, only="w", codebook_values=kind)
    sharing = Sharing(tensors, settings, Observer(), {"w": "w", "other": "other"})
    made = sharing.rounded(tensors)
    assert list(made) == ["w"]
    assert made["w"].dtype == np.float32
    assert (np.abs(made["w"][:500] - array[:500]) <= step * np.abs(array[:500]) + 1e-7).all()
    assert np.array_equal(made["w"] == 0, array == 0)
    assert np.array_equal(np.sign(made["w"]), np.sign(array))
    assert np.isfinite(made["w"]).all()
    assert np.array_equal(sharing.rounded(made)["w"], made["w"])
