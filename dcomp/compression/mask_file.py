"""Masks that a file gives: those of a checkpoint, whose zeros are pruned, or tensors of zeros and ones.

A mask has the name of its tensor, with or without `_mask` at its end; of both, the one with `_mask` counts.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from dcomp.checkpoints import layers, prefixes
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.checkpoints.layers import Aliases
from dcomp.errors import CheckpointError, UsageError
from dcomp.pruning import budget
from dcomp.pruning.budget import Group, ScoresOf, Weights
from dcomp.settings import PruneSettings


class GivenMasks:
    """Masks of a file for the tensors to prune, in place of a budget.

    Attributes:
        groups: one, of the tensors that have masks.
        moves: the time of the one move, in epochs.
    """

    def __init__(
        self, source: Checkpoint, weights: Weights, aliases: Sequence[Aliases], settings: PruneSettings
    ) -> None:
        """Read the masks.

        Args:
            source: the content of the file.
            weights: the tensors to prune, each by its first name.
            aliases: all names of each of them; a mask may have any.
            settings: name the file.

        Raises:
            CheckpointError: there is no mask for these tensors, or one has another shape or other values than 0 and 1.
            UsageError: the masks keep nothing.
        """
        self._file = str(settings.mask)
        self.moves = settings.mask_schedule.moves()
        all_names = {name for names in aliases for name in names}
        entries = _entries(source, all_names)
        self._masks = {}
        for names in aliases:
            entry = next((entries[name] for name in names if name in entries), None)
            if entry is not None:
                self._masks[names[0]] = self._mask(entry, source.tensors[entry], weights[names[0]].shape)
        self._without = [names[0] for names in aliases if names[0] not in self._masks]
        self._unused = [name for name, entry in entries.items() if name not in all_names and _is_mask(source, entry)]
        if not self._masks:
            raise CheckpointError(
                f"{self._file} has no mask for {layers.listed(self._without)}; it has {layers.listed(list(entries))}"
            )
        masked = {name: np.where(mask, weights[name], 0) for name, mask in self._masks.items()}
        if budget.sparsity_of(masked) == 1:
            raise UsageError(f"the masks in {self._file} leave none of the weights, and so no network")
        self.groups = [Group(tuple(self._masks), budget.sparsity_of(self._masks))]

    def masks(self, move: float, weights: Weights, scores_of: ScoresOf) -> dict[str, np.ndarray]:
        """Return the masks; the time, the weights and their rank do not count."""
        return self._masks

    def notes(self, group: Group) -> Iterator[str]:
        """Yield which tensors have no mask, and which masks are for tensors that are not pruned."""
        if self._without:
            yield f"{layers.listed(self._without)}: not pruned, as {self._file} has no mask for it"
        if self._unused:
            yield f"{layers.listed(self._unused)}: not pruned, as kinds, only and skip do not choose what has this mask"

    def _mask(self, entry: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return the mask in an entry of the file: True where that is not zero."""
        if array.shape != shape:
            raise CheckpointError(f"{self._file}: {entry} has shape {array.shape}, but its weights have {shape}")
        mask = array != 0
        if entry.endswith(prefixes.MASK) and not np.array_equal(array, mask):
            raise CheckpointError(f"{self._file}: {entry} holds other values than 0 and 1, so it is no mask")
        return mask


def _entries(source: Checkpoint, wanted: Iterable[str]) -> dict[str, str]:
    """Return the name of the entry that is for each tensor; prefixes of wrappers are removed if nothing fits else."""
    entries = {name: name for name in source.tensors}
    entries |= {name.removesuffix(prefixes.MASK): name for name in source.tensors if name.endswith(prefixes.MASK)}
    fitted = entries
    while not fitted.keys() & set(wanted):
        prefix = prefixes.common(fitted)
        if prefix is None:
            return entries
        fitted = {name.removeprefix(prefix): entry for name, entry in fitted.items()}
    return fitted


def _is_mask(source: Checkpoint, entry: str) -> bool:
    """Tell whether an entry cannot be anything but a mask, as weights can."""
    return entry.endswith(prefixes.MASK) or source.tensors[entry].dtype == bool
