import numpy as np
import pytest

from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.compression.rewinding import rewind
from dcomp.errors import CheckpointError


def earlier(checkpoint):
    return Checkpoint({name: array * 0 + 7 for name, array in checkpoint.tensors.items()})


def test_kept_weights_have_their_earlier_values(lenet_like):
    lenet_like.tensors["fc1.weight"][:100] = 0
    ticket = rewind(lenet_like, earlier(lenet_like), []).tensors
    assert (ticket["fc1.weight"][:100] == 0).all()
    assert all((ticket[name][100:] == 7).all() for name in ticket)


def test_zeros_of_biases_are_held_only_if_they_were_pruned(lenet_like):
    for name in ("fc1.bias", "fc2.bias"):
        lenet_like.tensors[name][0] = 0
    ticket = rewind(lenet_like, earlier(lenet_like), ["fc2.bias"]).tensors
    assert (ticket["fc1.bias"][0], ticket["fc2.bias"][0]) == (7, 0)


def test_dtypes_are_those_of_the_pruned_network(lenet_like):
    half = Checkpoint({name: array.astype(np.float16) for name, array in lenet_like.tensors.items()})
    assert {array.dtype for array in rewind(half, earlier(lenet_like), []).tensors.values()} == {np.dtype(np.float16)}


def test_another_network_to_rewind_to_is_refused(lenet_like):
    other = earlier(lenet_like)
    other.tensors["fc2.weight"] = np.ones((3, 3), np.float32)
    with pytest.raises(CheckpointError, match=r"fc2\.weight is \(3, 3\) where the pruned network has \(100, 300\)"):
        rewind(lenet_like, other, [])
    del other.tensors["fc2.weight"]
    with pytest.raises(CheckpointError, match=r"fc2\.weight is absent where"):
        rewind(lenet_like, other, [])
