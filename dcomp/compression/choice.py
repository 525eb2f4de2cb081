"""The tensors of a checkpoint that a stage is to change."""

from collections.abc import Collection, Mapping

import numpy as np

from dcomp import layers
from dcomp.errors import CheckpointError, UsageError
from dcomp.settings import ChosenSettings


def names(
    tensors: Mapping[str, np.ndarray], kinds: Collection[layers.Kind], settings: ChosenSettings, what: str
) -> list[str]:
    """Names of the tensors of these kinds that the settings choose, in the checkpoint's order.

    Raises:
        UsageError: there are none; `what` says what for.
    """
    found = layers.select(tensors, kinds)
    if not found:
        raise UsageError(f"the checkpoint has no {' or '.join(kinds)} {what}")
    return layers.chosen(found, settings.only, settings.skip)


def weights(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All weights of a checkpoint by name, in its order.

    Raises:
        UsageError: there are none.
        CheckpointError: weights that are not finite.
    """
    found = {name: tensors[name] for name in layers.select(tensors, layers.WEIGHTS)}
    if not found:
        raise UsageError(f"the checkpoint has no {' or '.join(layers.WEIGHTS)} weights")
    check_finite(found)
    return found


def check_finite(weights: Mapping[str, np.ndarray]) -> None:
    """Raise CheckpointError if a weight is infinite or no number."""
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"{name} holds infinities or NaNs, which cannot be pruned or shared")
