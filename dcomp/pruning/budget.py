"""How many weights each group of tensors may keep, and the masks that keep exactly so many.

Weights are given as a mapping of names to arrays. A *score* function takes a name and its weights and
gives scores (see `criteria`); where whole rows are judged, every budget is counted in rows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dcomp.errors import UsageError
from dcomp.pruning import criteria

Names = tuple[str, ...]
Weights = Mapping[str, np.ndarray]
Score = Callable[[str, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Group:
    """Tensors that share one budget, and the sparsity they come to together."""

    names: Names
    sparsity: float


def grouped(
    weights: Weights,
    asked: float | None,
    to_sparsity: Callable[[Names, float], float],
    *,
    together: bool,
    own: Mapping[str, float],
) -> list[Group]:
    """Groups for what was asked for, in any unit; tensors that have their own are groups of one.

    Args:
        weights: the tensors to prune.
        asked: for all other tensors; None leaves those alone.
        to_sparsity: makes what was asked for a group the sparsity of that group.
        together: one group for all of them (global scope), or one for each.
        own: what is asked for single tensors, by name.
    """
    groups = [Group((name,), to_sparsity((name,), value)) for name, value in own.items()]
    rest = tuple(name for name in weights if name not in own)
    if asked is None or not rest:
        return groups
    return [*groups, *(Group(names, to_sparsity(names, asked)) for names in ([rest] if together else zip(rest)))]


def by_sparsity(weights: Weights, sparsity: float | None, *, together: bool, own: Mapping[str, float]) -> list[Group]:
    """Groups for a fraction of zeros."""
    return grouped(weights, sparsity, lambda names, fraction: fraction, together=together, own=own)


def by_count(
    weights: Weights, count: float, *, together: bool, own: Mapping[str, float], rows: bool = False
) -> list[Group]:
    """Groups for a number of zeros.

    Raises:
        UsageError: a group has fewer weights or rows than that.
    """
    sizes = {name: len(array) if rows else array.size for name, array in weights.items()}

    def fraction(names: Names, zeros: float) -> float:
        size = sum(sizes[name] for name in names)
        if zeros > size:
            what = "rows" if rows else "weights"
            raise UsageError(f"{', '.join(names)}: {zeros:,.0f} {what} cannot become zero where there are {size:,}")
        return zeros / size

    return grouped(weights, count, fraction, together=together, own=own)


def by_amount(
    weights: Weights, amount: float, moves: int, *, together: bool, own: Mapping[str, float], rows: bool = False
) -> list[Group]:
    """Groups for a fraction of what is left, that each of so many moves takes."""

    def fraction(names: Names, taken: float) -> float:
        counts = [count_kept(weights[name], rows=rows) for name in names]
        return 1 - sum(kept for kept, _ in counts) / sum(size for _, size in counts) * (1 - taken) ** moves

    return grouped(weights, amount, fraction, together=together, own=own)


def by_deviation(
    weights: Weights, factor: float, own: Mapping[str, float], deviations: Mapping[str, float] | None = None
) -> list[Group]:
    """Groups of one tensor each, with the sparsity that a threshold of `factor` standard deviations makes.

    Args:
        weights: the tensors to prune.
        factor: for all other tensors.
        own: factors of single tensors, by name.
        deviations: of each tensor; those of the weights as they are unless given.
    """

    def fraction(names: Names, own_factor: float) -> float:
        (name,) = names
        deviation = criteria.deviation(weights[name]) if deviations is None else deviations[name]
        return 1 - float(np.mean(criteria.above(weights[name], own_factor * deviation)))

    return grouped(weights, factor, fraction, together=False, own=own)


def masks(weights: Weights, groups: Sequence[Group], score: Score) -> dict[str, np.ndarray]:
    """Masks that bring each group to its sparsity, to the weight or row."""
    found: dict[str, np.ndarray] = {}
    for group in groups:
        scores = [score(name, weights[name]) for name in group.names]
        count = criteria.kept_count(sum(s.size for s in scores), group.sparsity)
        for name, mask in zip(group.names, criteria.keep_largest(scores, count), strict=True):
            shape = weights[name].shape
            found[name] = mask if mask.shape == shape else np.broadcast_to(mask, shape).copy()
    return found


def count_kept(array: np.ndarray, *, rows: bool = False) -> tuple[int, int]:
    """How many weights, or rows, are not zero, and how many there are."""
    if not rows:
        return int(np.count_nonzero(array)), array.size
    return int((array != 0).reshape(len(array), -1).any(axis=1).sum()), len(array)


def sparsity_of(weights: Weights, names: Sequence[str] | None = None) -> float:
    """The fraction of zeros in the tensors named, or in all."""
    arrays = [weights[name] for name in (weights if names is None else names)]
    size = sum(array.size for array in arrays)
    return 1 - sum(np.count_nonzero(array) for array in arrays) / size if size else 0.0
