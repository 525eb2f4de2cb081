"""Tied parameters, which have several names in a model's state: one of them is enough to load them."""

from collections.abc import Collection, Mapping

from torch import Tensor


def missing_names(state: Mapping[str, Tensor], names: Collection[str]) -> list[str]:
    """Return the names in a model's state that are not among `names`, nor is another name of the same parameter.

    Args:
        state: `model.state_dict(keep_vars=True)`, where tied parameters are the same object.
        names: of tensors to load.
    """
    loaded = {id(state[name]) for name in names if name in state}
    return [name for name, parameter in state.items() if name not in names and id(parameter) not in loaded]
