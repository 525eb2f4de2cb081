"""What the settings of `prune` ask of a checkpoint: which weights become zero, and when."""

from collections.abc import Iterator, Mapping

import numpy as np

from dcomp.checkpoints import layers
from dcomp.compression.byte_budget import ByteBudget
from dcomp.compression.choice import Choice, ParameterNames, check_finite
from dcomp.errors import UsageError
from dcomp.pruning import budget, ranking, threshold
from dcomp.pruning.budget import Group, Weights
from dcomp.pruning.criteria import CRITERIA, Criterion, Evidence
from dcomp.settings import PruneSettings


class Pruning:
    """A checkpoint's weights as they are at first, and the budgets that the settings give them."""

    def __init__(self, tensors: Weights, settings: PruneSettings, network: ParameterNames | None = None) -> None:
        """Choose the weights and form the groups.

        Raises:
            UsageError: no such layers, more asked of one than it has, nothing asked of any, or a criterion that
                cannot judge so.
            CheckpointError: weights that are not finite.
        """
        self._settings = settings
        self._criterion = _criterion(settings)
        self._rows = settings.structure == "row"
        self._schedule = settings.mask_schedule
        self._choice = Choice(tensors, settings.kinds, settings, "weights", network)
        if self._rows:
            self._choice.leave_output_out(tensors)
        self._by_rule = self._choice.values()
        self._weights = {name: tensors[name] for name in self._choice.names}
        check_finite(self._weights)
        self._chance = _chance(self._weights, settings) if self._criterion.needs_chance else {}
        self._deviations: dict[str, float] = {}
        if settings.unit == "threshold":
            self._deviations = {name: threshold.deviation(array) for name, array in self._weights.items()}
        self._bytes: ByteBudget | None = None
        if settings.target_ratio is not None:
            self._bytes = ByteBudget(tensors, self._choice.aliases, settings.target_ratio, settings.code_bits)
        self._groups = self._groups_of(self._weights)
        if not self._groups:
            hint = "give a sparsity, like 0.9, or a count or an amount"
            where = ", where plan and layer name others" if settings.rules else ""
            raise UsageError(f"nothing is asked for {', '.join(self._choice.names)}{where}: {hint}")
        self._kept, self._sizes = {}, {}
        for group in self._groups:
            kept, size = budget.counts_of(self._weights, group.names, rows=self._rows)
            self._kept[group.names], self._sizes[group.names] = kept, size
            self._check_something_is_left(group)

    @property
    def names(self) -> list[str]:
        """The tensors to prune, each by its first name."""
        return [name for group in self._groups for name in group.names]

    @property
    def without_dead(self) -> bool:
        """Whether weights on no path from input to output are pruned too."""
        return self._settings.remove_dead_units

    @property
    def moves(self) -> list[float]:
        """The epochs at which masks move while the network retrains; none for a network that was rewound."""
        return [] if self._settings.rewind else self._schedule.moves()

    @property
    def by_gradients(self) -> bool:
        """Whether the criterion needs gradients."""
        return self._criterion.needs_gradients

    def masks_at(
        self, move: float, weights: Weights, squared_gradients: Weights | None = None
    ) -> dict[str, np.ndarray]:
        """Return the masks of one move.

        A threshold counts in standard deviations of the weights as they are at first: those of pruned weights grow
        with each move, and would prune more and more.

        Args:
            move: one of the moves.
            weights: of the tensors to prune, as they are now.
            squared_gradients: mean squared gradients of these, if the criterion needs them.
        """

        def scores_of(name: str, array: np.ndarray) -> np.ndarray:
            gradients = squared_gradients[name] if squared_gradients is not None else None
            evidence = Evidence(array, self._settings.structure, gradients, self._chance.get(name))
            return self._criterion.scores(evidence)

        if self._bytes is not None:
            sparsity = self._schedule.sparsity(move, self._bytes.initial_sparsity, self._bytes.sparsity)
            return self._bytes.masks(weights, sparsity, scores_of)
        groups = []
        for group in self._groups_of(weights):
            kept, size = self._kept[group.names], self._sizes[group.names]
            groups.append(Group(group.names, self._schedule.sparsity(move, (size - kept) / size, group.sparsity)))
        return budget.masks(weights, groups, scores_of)

    def at_once(self) -> dict[str, np.ndarray]:
        """Return the tensors pruned, without retraining; tied ones by each of their names."""
        masks = self.masks_at(self._schedule.moves()[-1], self._weights)
        pruned = {name: ranking.pruned(self._weights[name], mask) for name, mask in masks.items()}
        return self._choice.under_all_names(pruned)

    def notes(self, tensors: Weights) -> Iterator[str]:
        """Yield what a person should know of the result, group by group."""
        yield from self._choice.notes()
        for group in self._groups:
            kept, size = budget.counts_of(tensors, group.names)
            yield f"{layers.listed(group.names, 8)}: sparsity {1 - kept / size:.4f}, {kept:,} of {size:,} weights kept"
            if emptied := [name for name in group.names if self._is_emptied(name, tensors[name])]:
                where = layers.listed(emptied)
                yield f"warning: no weight is left in {where}, so nothing passes: give scope layer, or layer"
            if self._bytes is None:
                yield from self._notes_of_zeros(group)
            elif self._bytes.initial_sparsity > self._bytes.sparsity:
                yield "target_ratio asks for more bytes than the weights that were found take: none was pruned"

    def _notes_of_zeros(self, group: Group) -> Iterator[str]:
        """Yield a note if a group had more zeros at first than the settings ask for."""
        size = self._sizes[group.names]
        if size - self._kept[group.names] > round(size * group.sparsity) > 0:
            yield f"sparsity {group.sparsity:g} was asked for, but more weights than that were zero already"

    def _check_something_is_left(self, group: Group) -> None:
        """Raise UsageError if all weights of a group, which has some at first, become zero; biases may."""
        size = self._sizes[group.names]
        kinds = {layers.kind_of(name, self._weights[name]) for name in group.names}
        emptied = ranking.kept_count(size, group.sparsity) == 0 and self._kept[group.names] > 0
        if emptied and kinds & set(layers.WEIGHTS):
            what = "rows" if self._rows else "weights"
            names = ", ".join(group.names)
            raise UsageError(f"{names}: this would leave none of {size:,} {what}, and so no network: ask for less")

    def _is_emptied(self, name: str, array: np.ndarray) -> bool:
        """Tell whether a layer has no weights left, but had some at first; biases may have none."""
        kept_before, kept = budget.count_kept(self._weights[name])[0], budget.count_kept(array)[0]
        return kept_before > 0 and kept == 0 and layers.kind_of(name, array) in layers.WEIGHTS

    def _groups_of(self, weights: Weights) -> list[Group]:
        """Return the groups, each with the sparsity that the last move gives if weights stay as they are."""
        settings, by_name, together = self._settings, self._by_rule, self._settings.together
        if settings.count is not None:
            return budget.by_count(weights, settings.count, together=together, by_name=by_name, rows=self._rows)
        if settings.amount is not None:
            moves = len(self._schedule.moves())
            return budget.by_amount(
                self._weights, settings.amount, moves, together=together, by_name=by_name, rows=self._rows
            )
        if settings.target_ratio is not None:
            return budget.by_sparsity(weights, 0.0, together=True, by_name={})
        if settings.threshold is not None:
            return budget.by_deviation(weights, settings.threshold, by_name, self._deviations)
        return budget.by_sparsity(weights, settings.sparsity, together=together, by_name=by_name)


def _criterion(settings: PruneSettings) -> Criterion:
    """Return the criterion that the settings name.

    Raises:
        UsageError: it cannot judge what they ask for.
    """
    name, criterion = settings.criterion, CRITERIA[settings.criterion]
    if settings.structure not in criterion.granularity:
        raise UsageError(f"criterion {name} does not judge by {settings.structure}: choose another structure")
    if criterion.needs_gradients and (settings.rewind or not settings.epochs):
        raise UsageError(f"criterion {name} needs gradients while the network retrains: give epochs, and no rewind")
    return criterion


def _chance(weights: Mapping[str, np.ndarray], settings: PruneSettings) -> dict[str, np.ndarray]:
    """Draw a random number in (0, 1] for each weight or row; drawn once, so masks only shrink."""
    rng = np.random.default_rng(settings.seed)
    by_row = settings.structure == "row"
    shapes = {name: (len(array), *[1] * (array.ndim - 1)) if by_row else array.shape for name, array in weights.items()}
    return {name: 1 - rng.random(shape, dtype=np.float32) for name, shape in shapes.items()}
