"""How many weights each group of tensors may keep, and the masks that keep exactly so many.

Weights are given as a mapping of names to arrays. A *score* function takes a name and its weights and
gives scores of the same shape (see `criteria`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dcomp.layers import Rule, apply_rules
from dcomp.pruning import criteria

Weights = Mapping[str, np.ndarray]
Score = Callable[[str, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Group:
    """Tensors that share one budget, and the sparsity they come to together."""

    names: tuple[str, ...]
    sparsity: float


def by_sparsity(weights: Weights, sparsity: float | None, *, together: bool, rules: Sequence[Rule]) -> list[Group]:
    """Groups for a sparsity asked for; tensors that a rule names are groups of their own.

    Args:
        weights: the tensors to prune.
        sparsity: for all tensors without a rule; None leaves those alone.
        together: one group for all of them (global scope), or one for each.
        rules: sparsities of single layers.
    """
    own = apply_rules(list(weights), rules)
    groups = [Group((name,), value) for name, value in own.items()]
    rest = tuple(name for name in weights if name not in own)
    if sparsity is None or not rest:
        return groups
    return [*groups, *([Group(rest, sparsity)] if together else [Group((name,), sparsity) for name in rest])]


def by_deviation(weights: Weights, factor: float, rules: Sequence[Rule]) -> list[Group]:
    """Groups of one tensor each, with the sparsity that a threshold of `factor` standard deviations makes."""
    factors = dict.fromkeys(weights, factor) | apply_rules(list(weights), rules)
    return [
        Group((name,), 1 - float(np.mean(criteria.above_deviation(weights[name], own_factor))))
        for name, own_factor in factors.items()
    ]


def masks(weights: Weights, groups: Sequence[Group], score: Score) -> dict[str, np.ndarray]:
    """Masks that bring each group to its sparsity, to the weight."""
    found: dict[str, np.ndarray] = {}
    for group in groups:
        scores = [score(name, weights[name]) for name in group.names]
        kept = criteria.kept_count(sum(s.size for s in scores), group.sparsity)
        found.update(zip(group.names, criteria.keep_largest(scores, kept), strict=True))
    return found


def sparsity_of(weights: Weights, names: Sequence[str] | None = None) -> float:
    """The fraction of zeros in the tensors named, or in all."""
    arrays = [weights[name] for name in (weights if names is None else names)]
    size = sum(array.size for array in arrays)
    return 1 - sum(np.count_nonzero(array) for array in arrays) / size if size else 0.0
