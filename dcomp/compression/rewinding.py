"""Lottery tickets (Frankle and Carbin 2019): the weights that pruning keeps, at the values they had earlier."""

import numpy as np

from dcomp.checkpoints import layers, prefixes
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.checkpoints.tensors import specs_of
from dcomp.errors import CheckpointError


def rewind(checkpoint: Checkpoint, earlier: Checkpoint, pruned: list[str]) -> Checkpoint:
    """Return a pruned checkpoint with the values of an earlier one; its zeros stay.

    Args:
        checkpoint: the pruned one.
        earlier: of the same network; its biases and running statistics are taken too.
        pruned: names of the pruned tensors; zeros of other biases are ordinary values.

    Raises:
        CheckpointError: the earlier checkpoint has other tensors.
    """
    masked = {*layers.select(checkpoint.tensors, layers.WEIGHTS), *pruned}
    earlier = prefixes.fitted(earlier, checkpoint.tensors)
    shapes = {name: spec.shape for name, spec in specs_of(earlier.tensors).items()}
    tensors = {}
    for name, array in checkpoint.tensors.items():
        if shapes.get(name) != array.shape:
            raise CheckpointError(
                f"cannot rewind: {name} is {shapes.get(name, 'absent')} where the pruned network has {array.shape}; "
                "name an earlier checkpoint of the same network"
            )
        values = earlier.tensors[name].astype(array.dtype)
        tensors[name] = np.where(array != 0, values, 0) if name in masked else values
    return checkpoint.replaced(tensors)
