"""Lottery tickets (Frankle and Carbin 2019): the weights that pruning keeps, at the values they had earlier."""

import numpy as np

from dcomp.checkpoints import layers
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.checkpoints.tensors import specs_of
from dcomp.errors import CheckpointError


def rewound(checkpoint: Checkpoint, earlier: Checkpoint, pruned: list[str]) -> dict[str, np.ndarray]:
    """The tensors of an earlier checkpoint of the same network, with the zeros that this one's weights have.

    Args:
        checkpoint: what was pruned.
        earlier: where values come from, of biases and running statistics too.
        pruned: tensors whose zeros were pruned, though they be biases, whose zeros else mean nothing.

    Raises:
        CheckpointError: the earlier checkpoint has other tensors.
    """
    masked = {*layers.select(checkpoint.tensors, layers.WEIGHTS), *pruned}
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
    return tensors
