"""How many weights each group of tensors may keep, and the masks that keep exactly this number.

Weights are mappings of names to arrays. If whole rows are pruned, budgets count rows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dcomp.checkpoints import dtypes
from dcomp.errors import UsageError
from dcomp.pruning import ranking, threshold

Names = tuple[str, ...]
Weights = Mapping[str, np.ndarray]
ScoresOf = Callable[[str, np.ndarray], np.ndarray]
"""The scores of a tensor, from its name and weights; see `criteria`."""


@dataclass(frozen=True)
class Group:
    """Tensors that share one budget, and their joint sparsity."""

    names: Names
    sparsity: float


def grouped(
    weights: Weights,
    default: float | None,
    to_sparsity: Callable[[Names, float], float],
    *,
    together: bool,
    by_name: Mapping[str, float],
) -> list[Group]:
    """Return groups for amounts in any unit; tensors with an amount by name are groups of one.

    Args:
        weights: the tensors to prune.
        default: the amount for all other tensors; None does not prune them.
        to_sparsity: turns an amount for the named tensors into their sparsity.
        together: whether all other tensors are one group (global scope), or each is a group.
        by_name: amounts of single tensors.
    """
    groups = [Group((name,), to_sparsity((name,), amount)) for name, amount in by_name.items()]
    other_names = tuple(name for name in weights if name not in by_name)
    if default is None or not other_names:
        return groups
    shared = [other_names] if together else list(zip(other_names))
    return [*groups, *(Group(names, to_sparsity(names, default)) for names in shared)]


def by_sparsity(
    weights: Weights, sparsity: float | None, *, together: bool, by_name: Mapping[str, float]
) -> list[Group]:
    """Return groups for a fraction of zeros."""
    return grouped(weights, sparsity, lambda names, fraction: fraction, together=together, by_name=by_name)


def by_count(
    weights: Weights, count: float, *, together: bool, by_name: Mapping[str, float], rows: bool = False
) -> list[Group]:
    """Return groups for a number of zeros.

    Raises:
        UsageError: a group has fewer weights or rows.
    """
    sizes = {name: len(array) if rows else array.size for name, array in weights.items()}

    def fraction(names: Names, zeros: float) -> float:
        size = sum(sizes[name] for name in names)
        if zeros > size:
            kind = "rows" if rows else "weights"
            raise UsageError(f"{', '.join(names)}: {zeros:,.0f} {kind} cannot become zero where there are {size:,}")
        return zeros / size

    return grouped(weights, count, fraction, together=together, by_name=by_name)


def by_amount(
    weights: Weights, amount: float, moves: int, *, together: bool, by_name: Mapping[str, float], rows: bool = False
) -> list[Group]:
    """Return groups for a fraction of the remaining weights, which each of `moves` moves sets to zero."""

    def fraction(names: Names, part: float) -> float:
        kept, size = counts_of(weights, names, rows=rows)
        return 1 - kept / size * (1 - part) ** moves

    return grouped(weights, amount, fraction, together=together, by_name=by_name)


def by_deviation(
    weights: Weights, factor: float, by_name: Mapping[str, float], deviations: Mapping[str, float] | None = None
) -> list[Group]:
    """Return groups of one tensor each, with the sparsity that a threshold of standard deviations gives.

    Args:
        weights: the tensors to prune.
        factor: of the deviation, for tensors that `by_name` does not name.
        by_name: factors of single tensors.
        deviations: of each tensor; by default those of the weights.
    """

    def fraction(names: Names, factor: float) -> float:
        (name,) = names
        deviation = threshold.deviation(weights[name]) if deviations is None else deviations[name]
        return 1 - float(np.mean(threshold.above(weights[name], factor * deviation)))

    return grouped(weights, factor, fraction, together=False, by_name=by_name)


def masks(weights: Weights, groups: Sequence[Group], scores_of: ScoresOf) -> dict[str, np.ndarray]:
    """Return masks that bring each group to its sparsity, to the weight or row."""
    all_masks: dict[str, np.ndarray] = {}
    for group in groups:
        scores = [scores_of(name, weights[name]) for name in group.names]
        count = ranking.kept_count(sum(s.size for s in scores), group.sparsity)
        for name, mask in zip(group.names, ranking.keep_largest(scores, count), strict=True):
            shape = weights[name].shape
            all_masks[name] = mask if mask.shape == shape else np.broadcast_to(mask, shape).copy()
    return all_masks


def count_kept(array: np.ndarray, *, rows: bool = False) -> tuple[int, int]:
    """Return how many weights, or rows, are not zero, and how many there are."""
    if not rows:
        return dtypes.count_not_zero(array), array.size
    return int((array != 0).reshape(len(array), -1).any(axis=1).sum()), len(array)


def counts_of(weights: Weights, names: Sequence[str], *, rows: bool = False) -> tuple[int, int]:
    """Return how many weights, or rows, of the named tensors are not zero together, and how many there are."""
    counts = [count_kept(weights[name], rows=rows) for name in names]
    return sum(kept for kept, _ in counts), sum(size for _, size in counts)


def sparsity_of(weights: Weights, names: Sequence[str] | None = None) -> float:
    """Return the fraction of zeros in the tensors named, or in all."""
    kept, size = counts_of(weights, list(weights) if names is None else names)
    return 1 - kept / size if size else 0.0
