"""Names that what is wrapped around a network leaves: prefixes, and the halves of weights that torch prunes."""

from collections.abc import Collection, Iterable, Mapping

from dcomp.checkpoints import tensors
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.errors import CheckpointError

ORIGINAL, MASK = "_orig", "_mask"
"""What `torch.nn.utils.prune` adds to the name of a weight that it holds as two tensors."""

PREFIXES = ("model.", "net.", "network.", "module.", "_forward_module.", "_orig_mod.")
"""What training modules, DistributedDataParallel, Lightning's strategies and torch.compile keep a network in."""


def common(names: Iterable[str]) -> str | None:
    """The prefix that all names share, if there is one."""
    names = list(names)
    return next((prefix for prefix in PREFIXES if names and all(name.startswith(prefix) for name in names)), None)


def fitted(checkpoint: Checkpoint, wanted: Collection[str]) -> Checkpoint:
    """The checkpoint without the prefixes that all of its names share, if they are the names wanted then."""
    names = list(checkpoint.tensors)
    while set(names) != set(wanted):
        prefix = common(names)
        if prefix is None:
            return checkpoint
        names = [name.removeprefix(prefix) for name in names]
    return Checkpoint(tensors.renamed(checkpoint.tensors, names), checkpoint.metadata)


def pairs(shapes: Mapping[str, Collection[int]]) -> dict[str, tuple[str, str]]:
    """Find the names of the original and the mask of each pruned weight.

    Args:
        shapes: of the tensors of a state, by name.

    Returns:
        the two names, by the weight's.
    """
    found = {}
    for name, shape in shapes.items():
        weight = name.removesuffix(ORIGINAL)
        mask = weight + MASK
        if name.endswith(ORIGINAL) and weight not in shapes and mask in shapes and shapes[mask] == shape:
            found[weight] = name, mask
    return found


def merged_names(names: Iterable[str], halves: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Return what each tensor of a state is called once halves are merged; masks are gone, originals are weights."""
    weight_of = {original: weight for weight, (original, _) in halves.items()}
    masks = {mask for _, mask in halves.values()}
    return {name: weight_of.get(name, name) for name in names if name not in masks}


def check_merged(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError for weights in two halves, which would be changed as if they were two weights."""
    halves = pairs({name: spec.shape for name, spec in tensors.specs_of(checkpoint.tensors).items()})
    for original, mask in halves.values():
        raise CheckpointError(
            f"{original!r} and {mask!r} are one weight, which torch.nn.utils.prune holds in two: call prune.remove() "
            "before you save it, or save the state_dict() with torch.save, which is merged when it is read"
        )
