"""What the settings of `prune` ask of a checkpoint: which weights become zero, and when."""

from collections.abc import Iterator, Mapping

import numpy as np

from dcomp.checkpoints import layers
from dcomp.compression.byte_budget import ByteBudget
from dcomp.compression.choice import Choice, ParameterNames, check_finite
from dcomp.errors import UsageError
from dcomp.pruning import budget, criteria
from dcomp.pruning.budget import Group, Score, Weights
from dcomp.settings import PruneSettings


class Pruning:
    """A checkpoint's weights as they were found, and the budgets that the settings give them."""

    def __init__(self, tensors: Weights, settings: PruneSettings, network: ParameterNames | None = None) -> None:
        """Choose the weights and form the groups.

        Raises:
            UsageError: no such layers, or more asked of one than it has, or nothing of any.
            CheckpointError: weights that are not finite.
        """
        self._settings = settings
        self._rows = settings.structure == "row"
        self._schedule = settings.mask_schedule
        self._choice = Choice(tensors, settings.kinds, settings, "weights", network)
        if self._rows:
            self._choice.leave_output_out(tensors)
        self._own = self._choice.values()
        self._weights = {name: tensors[name] for name in self._choice.names}
        check_finite(self._weights)
        self._score = _score(self._weights, settings)
        self._deviations: dict[str, float] = {}
        if settings.unit == "threshold":
            self._deviations = {name: criteria.deviation(array) for name, array in self._weights.items()}
        self._bytes: ByteBudget | None = None
        if settings.target_ratio is not None:
            self._bytes = ByteBudget(tensors, self._choice.aliases, settings.target_ratio, settings.code_bits)
        self._groups = self._groups_of(self._weights)
        if not self._groups:
            asked = "give a sparsity, like 0.9, or a count or an amount"
            where = ", where plan and layer name others" if settings.rules else ""
            raise UsageError(f"nothing is asked for {', '.join(self._choice.names)}{where}: {asked}")
        self._sizes, self._zeros = {}, {}
        for group in self._groups:
            counts = [budget.count_kept(self._weights[name], rows=self._rows) for name in group.names]
            self._sizes[group.names] = sum(size for _, size in counts)
            self._zeros[group.names] = sum(size - kept for kept, size in counts)
            self._check_something_is_left(group)

    @property
    def names(self) -> list[str]:
        """The tensors that are pruned, each by its first name."""
        return [name for group in self._groups for name in group.names]

    @property
    def without_dead(self) -> bool:
        """Whether what lies on no path from input to output is pruned too."""
        return self._settings.remove_dead_units

    @property
    def moves(self) -> list[float]:
        """The epochs at which masks move while the network retrains; none if it was rewound, and pruned before that."""
        return [] if self._settings.rewind else self._schedule.moves()

    @property
    def by_gradients(self) -> bool:
        """Whether masks are judged by gradients as well."""
        return self._settings.criterion == "fisher"

    def masks_at(
        self, move: float, weights: Weights, squared_gradients: Weights | None = None
    ) -> dict[str, np.ndarray]:
        """The masks that one of the moves brings about, by what weights the tensors that are pruned have at that time.

        A threshold is as many standard deviations of the weights as they were found: those of weights already pruned
        would grow with each move, and so prune ever more.

        Args:
            move: one of the moves.
            weights: of the tensors that are pruned.
            squared_gradients: their means, where masks are judged by them.
        """
        score = self._score if squared_gradients is None else _fisher(squared_gradients)
        if self._bytes is not None:
            sparsity = self._schedule.sparsity(move, self._bytes.initial_sparsity, self._bytes.sparsity)
            return self._bytes.masks(weights, sparsity, score)
        now = []
        for group in self._groups_of(weights):
            initial = self._zeros[group.names] / self._sizes[group.names]
            now.append(Group(group.names, self._schedule.sparsity(move, initial, group.sparsity)))
        return budget.masks(weights, now, score)

    def at_once(self) -> dict[str, np.ndarray]:
        """The tensors pruned, without retraining; tied ones by each of their names."""
        masks = self.masks_at(self._schedule.moves()[-1], self._weights)
        return self._choice.under_all_names(
            {name: np.where(kept & (self._weights[name] != 0), self._weights[name], 0) for name, kept in masks.items()}
        )

    def notes(self, tensors: Weights) -> Iterator[str]:
        """What a person should know of what came of it, group by group."""
        yield from self._choice.notes()
        for group in self._groups:
            found = budget.sparsity_of(tensors, group.names)
            kept = sum(np.count_nonzero(tensors[name]) for name in group.names)
            total = sum(self._weights[name].size for name in group.names)
            yield f"{', '.join(group.names)}: sparsity {found:.4f}, {kept:,} of {total:,} weights kept"
            if emptied := [name for name in group.names if self._is_emptied(name, tensors[name])]:
                yield f"{', '.join(emptied)}: no weight is left, so nothing passes: give layer, or scope layer"
            if self._bytes is not None:
                if self._bytes.initial_sparsity > self._bytes.sparsity:
                    yield "target_ratio asks for more bytes than the weights that were found take: none was pruned"
                continue
            asked = round(self._sizes[group.names] * group.sparsity)
            if self._zeros[group.names] > asked > 0:
                yield f"sparsity {group.sparsity:g} was asked for, but more weights than that were zero already"

    def _check_something_is_left(self, group: Group) -> None:
        """Raise UsageError if all weights of a group, which are some now, are to become zero; biases may."""
        size = self._sizes[group.names]
        kinds = {layers.kind_of(name, self._weights[name]) for name in group.names}
        emptied = criteria.kept_count(size, group.sparsity) == 0 and self._zeros[group.names] < size
        if emptied and kinds & set(layers.WEIGHTS):
            what = "rows" if self._rows else "weights"
            names = ", ".join(group.names)
            raise UsageError(f"{names}: this would leave none of {size:,} {what}, and so no network: ask for less")

    def _is_emptied(self, name: str, array: np.ndarray) -> bool:
        """Whether none of a layer's weights is left, of which there were some; of biases none may be left."""
        before = np.count_nonzero(self._weights[name])
        return bool(before and not np.count_nonzero(array) and layers.kind_of(name, array) in layers.WEIGHTS)

    def _groups_of(self, weights: Weights) -> list[Group]:
        """The groups, each with the sparsity that the last move brings about if weights stay as they are."""
        settings = self._settings
        own, together = self._own, settings.together
        if settings.count is not None:
            return budget.by_count(weights, settings.count, together=together, own=own, rows=self._rows)
        if settings.amount is not None:
            moves = len(self._schedule.moves())
            return budget.by_amount(self._weights, settings.amount, moves, together=together, own=own, rows=self._rows)
        if settings.target_ratio is not None:
            return budget.by_sparsity(weights, 0.0, together=True, own={})
        if settings.threshold is not None:
            return budget.by_deviation(weights, settings.threshold, own, self._deviations)
        return budget.by_sparsity(weights, settings.sparsity, together=together, own=own)


def _fisher(squared_gradients: Weights) -> Score:
    """Score by the root of what a weight's loss would add, w^2 times its mean squared gradient, to second order."""
    return lambda name, array: criteria.magnitude(array) * np.sqrt(squared_gradients[name])


def _score(weights: Mapping[str, np.ndarray], settings: PruneSettings) -> Score:
    importance = criteria.row_norm if settings.structure == "row" else criteria.magnitude
    if settings.criterion != "random":
        return lambda name, array: importance(array)
    rng = np.random.default_rng(settings.seed)
    chance = {name: criteria.random(importance(array), rng) for name, array in weights.items()}
    return lambda name, array: np.where(importance(array) != 0, chance[name], 0)  # drawn once, so masks only shrink
