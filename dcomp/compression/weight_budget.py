"""How many weights, or whole rows, each group of tensors keeps after each move of the masks."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dcomp.checkpoints import layers
from dcomp.errors import UsageError
from dcomp.pruning import budget, ranking, threshold
from dcomp.pruning.budget import Group, ScoresOf, Weights
from dcomp.settings import PruneSettings


class WeightBudget:
    """Groups of tensors, and the sparsity that settings give to each.

    Attributes:
        groups: each with its sparsity after the last move.
        moves: the times of the moves in epochs, without those after all groups are at the sparsity that caps an amount.
    """

    def __init__(
        self,
        weights: Weights,
        settings: PruneSettings,
        amounts: Mapping[str, float],
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Form the groups, and count what they keep at first.

        Args:
            weights: the tensors to prune, as they are at first.
            settings: amount, scope, structure and schedule.
            amounts: those that rules give to single tensors, by name.
            facts: of a budget of the same settings, whose tensors have changed since.

        Raises:
            UsageError: no tensor has an amount, an amount is more than its tensor has, or a group would keep nothing.
        """
        self._weights = weights
        self._settings = settings
        self._amounts = amounts
        self._rows = settings.structure == "row"
        self._schedule = settings.mask_schedule
        self._deviations: dict[str, float] = {}
        if facts is None:
            self._count(weights)
        else:
            self._restore(facts)
        self.groups = [replace(group, sparsity=self._capped(group.sparsity)) for group in self._uncapped]
        for group in self.groups:
            self._check_something_is_kept(group)
        self.moves = self._moves()

    def _count(self, weights: Weights) -> None:
        """Form the groups of weights as they are at first, without a cap, and count what these keep."""
        if self._settings.unit == "threshold":
            self._deviations = {name: threshold.deviation(array) for name, array in weights.items()}
        self._uncapped = self._first_groups()
        if not self._uncapped:
            hint = "give a sparsity, like 0.9, or a count or an amount"
            where = ", where plan and layer name others" if self._settings.rules else ""
            raise UsageError(f"no amount is given for {', '.join(weights)}{where}: {hint}")
        counts = {group.names: budget.counts_of(weights, group.names, rows=self._rows) for group in self._uncapped}
        self._kept_at_first = {names: kept for names, (kept, _) in counts.items()}
        self._sizes = {names: size for names, (_, size) in counts.items()}  # in weights or rows

    def masks(self, move: float, weights: Weights, scores_of: ScoresOf) -> dict[str, np.ndarray]:
        """Return the masks of one move.

        A threshold counts in standard deviations of the weights as they are at first: those of pruned weights grow
        with each move, and would prune more and more.

        Args:
            move: its time in epochs.
            weights: the tensors to prune, as they are now.
            scores_of: ranks the weights.
        """
        groups = [Group(group.names, self._sparsity_after(move, group)) for group in self._groups_at(weights)]
        return budget.masks(weights, groups, scores_of)

    def facts(self) -> dict[str, Any]:
        """Return what depends on the tensors as they were at first, as plain data."""
        groups = [[*group.names, group.sparsity, self._kept_at_first[group.names]] for group in self._uncapped]
        return {"groups": groups, "deviations": dict(self._deviations)}

    def _restore(self, facts: Mapping[str, Any]) -> None:
        """Restore what `facts` returned."""
        self._deviations = dict(facts["deviations"])
        self._uncapped, self._kept_at_first, self._sizes = [], {}, {}
        for *listed, sparsity, kept in facts["groups"]:
            names = tuple(listed)
            self._uncapped.append(Group(names, float(sparsity)))
            self._kept_at_first[names] = int(kept)
            self._sizes[names] = budget.counts_of(self._weights, names, rows=self._rows)[1]

    def notes(self, group: Group) -> Iterator[str]:
        """Yield a note if a group had more zeros at first than the settings ask for, or ends below a cap."""
        if (cap := self._settings.cap) is not None and group.sparsity < cap:
            moves = f"{len(self.moves)} moves" if len(self.moves) > 1 else "1 move"
            yield f"{moves} of the amount end at sparsity {group.sparsity:.4g}, below {cap:g}: give more moves"
        size = self._sizes[group.names]
        if size - self._kept_at_first[group.names] > round(size * group.sparsity) > 0:
            yield f"sparsity {group.sparsity:g} was asked for, but more weights than that were zero already"

    def _sparsity_after(self, move: float, group: Group) -> float:
        """Return the sparsity of a group, which is not capped yet, after one move."""
        size = self._sizes[group.names]
        initial = (size - self._kept_at_first[group.names]) / size
        return self._capped(self._schedule.sparsity(move, initial, group.sparsity))

    def _capped(self, sparsity: float) -> float:
        """Return a sparsity, or the cap of an amount where that is less."""
        return sparsity if self._settings.cap is None else min(sparsity, self._settings.cap)

    def _moves(self) -> list[float]:
        """Return the moves, without those after all groups are at the cap."""
        moves = self._schedule.moves()
        if self._settings.cap is None:
            return moves
        cap = self._settings.cap
        at_cap = (move for move in moves if all(self._sparsity_after(move, group) == cap for group in self._uncapped))
        last = next(at_cap, moves[-1])
        return moves[: moves.index(last) + 1]

    def _groups_at(self, weights: Weights) -> list[Group]:
        """Return the groups, each with the sparsity that the last move gives if weights stay as they are now."""
        if self._settings.threshold is None:
            return self._uncapped
        return budget.by_deviation(weights, self._settings.threshold, self._amounts, self._deviations)

    def _first_groups(self) -> list[Group]:
        """Return the groups, each with the sparsity that the last move gives to the tensors as they are at first."""
        settings, amounts, together, rows = self._settings, self._amounts, self._settings.together, self._rows
        weights = self._weights
        if settings.count is not None:
            return budget.by_count(weights, settings.count, together=together, by_name=amounts, rows=rows)
        if settings.amount is not None:
            moves = len(self._schedule.moves())
            return budget.by_amount(weights, settings.amount, moves, together=together, by_name=amounts, rows=rows)
        if settings.threshold is not None:
            return budget.by_deviation(weights, settings.threshold, amounts, self._deviations)
        return budget.by_sparsity(weights, settings.sparsity, together=together, by_name=amounts)

    def _check_something_is_kept(self, group: Group) -> None:
        """Raise UsageError if all weights of a group, which has some at first, become zero; biases may."""
        size = self._sizes[group.names]
        kinds = {layers.kind_of(name, self._weights[name]) for name in group.names}
        is_emptied = ranking.kept_count(size, group.sparsity) == 0 and self._kept_at_first[group.names] > 0
        if is_emptied and kinds & set(layers.WEIGHTS):
            what = "rows" if self._rows else "weights"
            names = ", ".join(group.names)
            raise UsageError(
                f"{names}: this would leave none of {size:,} {what}, and so no network: give a smaller amount"
            )
