import numpy as np
import pytest
from safetensors.numpy import save_file

from dcomp.checkpoints import prefixes, tensors
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.checkpoints.tensors import Tensors

NAMES = ["conv.weight", "fc.bias"]


def named(prefix):
    arrays = {f"{prefix}{name}": np.full(2, place, np.float32) for place, name in enumerate(NAMES)}
    return Checkpoint(arrays, {"from": "afar"})


@pytest.mark.parametrize("prefix", ["", "model.", "net.", "module.", "_forward_module.model.", "model._orig_mod."])
def test_shared_prefixes_are_removed(prefix):
    fitted = prefixes.fitted(named(prefix), NAMES)
    assert {name: array.tolist() for name, array in fitted.tensors.items()} == {
        "conv.weight": [0, 0],
        "fc.bias": [1, 1],
    }
    assert fitted.metadata == {"from": "afar"}


def test_prefixes_of_the_network_stay():
    checkpoint = named("model.")
    assert list(prefixes.fitted(checkpoint, list(checkpoint.tensors)).tensors) == ["model.conv.weight", "model.fc.bias"]


@pytest.mark.parametrize("wanted", [["conv.weight"], ["other"], []])
def test_names_that_do_not_fit_stay(wanted):
    assert list(prefixes.fitted(named("model."), wanted).tensors) == ["model.conv.weight", "model.fc.bias"]


def test_a_prefix_of_some_names_stays():
    mixed = Checkpoint({"model.fc.bias": np.ones(2), "loss.weight": np.ones(2)})
    assert prefixes.common(mixed.tensors) is None
    assert list(prefixes.fitted(mixed, ["fc.bias"]).tensors) == list(mixed.tensors)


def test_lazy_tensors_are_renamed_unread():
    arrays = named("model.").tensors
    read = []

    def reading(names):
        read.extend(names)
        return [arrays[name] for name in names]

    renamed = tensors.renamed(Tensors(tensors.specs_of(arrays), reading), NAMES)
    assert (list(renamed), read) == (NAMES, [])
    assert renamed["fc.bias"].tolist() == [1, 1]
    assert read == ["model.fc.bias"]


@pytest.mark.parametrize("stage", [["prune", "--sparsity=0.5"], ["quantize", "--fc-bits=2"]])
def test_a_weight_in_two_tensors_is_refused(dcomp, tmp_path, stage):
    halves = {"fc.weight_orig": np.ones((4, 5), np.float32), "fc.weight_mask": np.eye(4, 5, dtype=np.float32)}
    save_file(halves, tmp_path / "m.safetensors")
    code, _, err = dcomp(stage[0], tmp_path / "m.safetensors", *stage[1:])
    assert code == 1
    assert "'fc.weight_orig' and 'fc.weight_mask' are one weight" in err
    assert "call prune.remove()" in err
    assert dcomp("encode", tmp_path / "m.safetensors", "-q")[0] == 0
