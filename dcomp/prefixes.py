"""Prefixes that whatever is wrapped around a network puts before the names of its tensors."""

from collections.abc import Collection, Iterable

from dcomp import tensors
from dcomp.checkpoint import Checkpoint

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
