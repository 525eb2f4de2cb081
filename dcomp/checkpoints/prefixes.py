"""Names that wrappers of a network change: prefixes, and the two tensors of a weight that torch prunes."""

from collections.abc import Collection, Iterable, Mapping

from dcomp.checkpoints import tensors
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.errors import CheckpointError

ORIGINAL, MASK = "_orig", "_mask"
"""Ends of the names of the two tensors in which `torch.nn.utils.prune` keeps a weight."""

PREFIXES = ("model.", "net.", "network.", "module.", "_forward_module.", "_orig_mod.")
"""Prefixes of training modules, DistributedDataParallel, Lightning's strategies and torch.compile."""


def common(names: Iterable[str]) -> str | None:
    """Return the prefix that all names share, if there is one."""
    names = list(names)
    return next((prefix for prefix in PREFIXES if names and all(name.startswith(prefix) for name in names)), None)


def fitted(checkpoint: Checkpoint, network_names: Collection[str]) -> Checkpoint:
    """Remove the prefixes that all names of a checkpoint share, if that gives the names of the network."""
    names = list(checkpoint.tensors)
    while set(names) != set(network_names):
        prefix = common(names)
        if prefix is None:
            return checkpoint
        names = [name.removeprefix(prefix) for name in names]
    return Checkpoint(tensors.renamed(checkpoint.tensors, names), checkpoint.metadata)


def pairs(shapes: Mapping[str, Collection[int]]) -> dict[str, tuple[str, str]]:
    """Return the names of the original and the mask of each weight that torch has pruned.

    Args:
        shapes: of the tensors of a state, by name.

    Returns:
        the two names, by the name of the weight.
    """
    halves = {}
    for name, shape in shapes.items():
        weight = name.removesuffix(ORIGINAL)
        mask = weight + MASK
        if name.endswith(ORIGINAL) and weight not in shapes and mask in shapes and shapes[mask] == shape:
            halves[weight] = name, mask
    return halves


def merged_names(names: Iterable[str], halves: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Return the new name of each tensor once halves are merged: an original becomes the weight, a mask has none."""
    weight_of = {original: weight for weight, (original, _) in halves.items()}
    masks = {mask for _, mask in halves.values()}
    return {name: weight_of.get(name, name) for name in names if name not in masks}


def check_merged(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError for a weight that is held in two tensors; a stage would change it as two weights."""
    halves = pairs({name: spec.shape for name, spec in tensors.specs_of(checkpoint.tensors).items()})
    for original, mask in halves.values():
        raise CheckpointError(
            f"{original!r} and {mask!r} are one weight, which torch.nn.utils.prune holds in two: call prune.remove() "
            "before you save it, or save the state_dict() with torch.save, which is merged when it is read"
        )
