"""The weights of a checkpoint that `prune` sets to zero, and the masks of each of its moves."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dcomp.checkpoints import layers
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.compression import user_criterion
from dcomp.compression.byte_budget import ByteBudget
from dcomp.compression.choice import Choice, ParameterNames, check_finite
from dcomp.compression.mask_file import GivenMasks
from dcomp.compression.weight_budget import WeightBudget
from dcomp.errors import UsageError
from dcomp.pruning import budget, ranking
from dcomp.pruning.budget import Weights
from dcomp.pruning.criteria import Criterion, Evidence
from dcomp.settings import PruneSettings


class Pruning:
    """The tensors of a checkpoint to prune, as they are at first, and the budget that settings give them."""

    def __init__(
        self,
        tensors: Weights,
        settings: PruneSettings,
        network: ParameterNames | None = None,
        given_masks: Checkpoint | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Choose the tensors and their budget.

        Args:
            tensors: all of the checkpoint.
            settings: of the stage.
            network: what the names of a network stand for; None: every tensor of the checkpoint is a parameter.
            given_masks: the content of the file that the settings name as `mask`, if they do.
            facts: of a pruning with the same settings and network that has begun, and changed the tensors.

        Raises:
            UsageError: no such layers, no amount for any of them, an amount that is too large, or a criterion that
                cannot rank what the settings name.
            CheckpointError: weights that are not finite, or masks that do not fit.
        """
        self._settings = settings
        self._criterion = criterion_of(settings)
        self._choice = _choose(tensors, settings, network)
        self._weights = {name: tensors[name] for name in self._choice.names}
        check_finite(self._weights)
        self._chance = _chance(self._weights, settings) if self._criterion.needs_chance else {}
        amounts = self._choice.values()
        self._bytes: ByteBudget | None = None
        self._counts: WeightBudget | GivenMasks | None = None
        if given_masks is not None:
            self._counts = GivenMasks(given_masks, self._weights, self._choice.aliases, settings)
        elif settings.target_ratio is not None:
            self._bytes = ByteBudget(tensors, self._choice.aliases, settings.target_ratio, settings.code_bits, facts)
        else:
            self._counts = WeightBudget(self._weights, settings, amounts, facts)

    @property
    def names(self) -> list[str]:
        """The tensors to prune, each by its first name."""
        if self._counts is None:
            return self._choice.names
        return [name for group in self._counts.groups for name in group.names]

    @property
    def removes_dead_units(self) -> bool:
        """Whether weights on no path from input to output are pruned too."""
        return self._settings.remove_dead_units

    @property
    def moves(self) -> list[float]:
        """The epochs at which masks move while the network retrains; none for a network that was rewound."""
        if self._settings.rewind:
            return []
        return self._settings.mask_schedule.moves() if self._counts is None else self._counts.moves

    @property
    def needs_gradients(self) -> bool:
        """Whether the criterion needs gradients."""
        return self._criterion.needs_gradients

    def facts(self) -> dict[str, Any]:
        """Return what depends on the tensors as they were at first, as plain data; the masks of a file do not."""
        if isinstance(self._counts, GivenMasks):
            return {}
        budget_of_tensors = self._counts or self._bytes
        assert budget_of_tensors is not None  # one of the two is there
        return budget_of_tensors.facts()

    def masks_at(
        self, move: float, weights: Weights, squared_gradients: Weights | None = None
    ) -> dict[str, np.ndarray]:
        """Return the masks of one move.

        Args:
            move: one of the moves.
            weights: of the tensors to prune, as they are now.
            squared_gradients: mean squared gradients of these, if the criterion needs them.
        """

        def scores_of(name: str, array: np.ndarray) -> np.ndarray:
            gradients = squared_gradients[name] if squared_gradients is not None else None
            evidence = Evidence(array, self._settings.structure, gradients, self._chance.get(name))
            return self._criterion.scores(evidence)

        if self._counts is not None:
            return self._counts.masks(move, weights, scores_of)
        assert self._bytes is not None  # one of the two budgets is there
        schedule = self._settings.mask_schedule
        sparsity = schedule.sparsity(move, self._bytes.initial_sparsity, self._bytes.sparsity)
        return self._bytes.masks(weights, sparsity, scores_of)

    def at_once(self) -> dict[str, np.ndarray]:
        """Return the tensors pruned, without retraining; tied ones by each of their names."""
        masks = self.masks_at(self._settings.mask_schedule.moves()[-1], self._weights)
        pruned = {name: ranking.pruned(self._weights[name], mask) for name, mask in masks.items()}
        return self._choice.under_all_names(pruned)

    def notes(self, tensors: Weights) -> Iterator[str]:
        """Yield what a person should know of the result, group by group."""
        yield from self._choice.notes()
        if self._counts is not None:
            for group in self._counts.groups:
                yield from self._notes_of_tensors(group.names, tensors)
                yield from self._counts.notes(group)
        elif self._bytes is not None:
            yield from self._notes_of_tensors(self.names, tensors)
            if self._bytes.initial_sparsity > self._bytes.sparsity:
                yield "the weights take fewer bytes than target_ratio allows: none was pruned"

    def _notes_of_tensors(self, names: Sequence[str], tensors: Weights) -> Iterator[str]:
        """Yield the sparsity of tensors together, and a note if one of them has lost all of its weights."""
        kept, size = budget.counts_of(tensors, names)
        yield f"{layers.listed(names, 8)}: sparsity {1 - kept / size:.4f}, {kept:,} of {size:,} weights kept"
        if emptied := [name for name in names if self._is_emptied(name, tensors[name])]:
            where = layers.listed(emptied)
            yield f"warning: no weight is left in {where}, so the network is cut: give scope layer, or layer"

    def _is_emptied(self, name: str, array: np.ndarray) -> bool:
        """Tell whether a layer has no weights left, but had some at first; biases may have none."""
        kept_before, kept = budget.count_kept(self._weights[name])[0], budget.count_kept(array)[0]
        return kept_before > 0 and kept == 0 and layers.kind_of(name, array) in layers.WEIGHTS


def criterion_of(settings: PruneSettings) -> Criterion:
    """Return the criterion that the settings name.

    Raises:
        UsageError: there is no such one, or it cannot rank what they name.
    """
    name, criterion = settings.criterion, user_criterion.find(settings.criterion)
    if settings.structure not in criterion.granularity:
        raise UsageError(f"criterion {name} cannot rank {settings.structure}s: choose another structure")
    if criterion.needs_gradients and (settings.rewind or not settings.epochs):
        raise UsageError(f"criterion {name} needs gradients while the network retrains: give epochs, and no rewind")
    return criterion


def _choose(tensors: Weights, settings: PruneSettings, network: ParameterNames | None) -> Choice:
    """Return the tensors that the settings choose; where rows are pruned, without the output layer."""
    choice = Choice(tensors, settings.kinds, settings, "weights", network)
    if settings.structure == "row":
        choice.leave_out_output(tensors)
    return choice


def _chance(weights: Weights, settings: PruneSettings) -> dict[str, np.ndarray]:
    """Draw a random number in (0, 1] for each weight or row; drawn once, so masks only shrink."""
    rng = np.random.default_rng(settings.seed)
    by_row = settings.structure == "row"
    shapes = {name: (len(array), *[1] * (array.ndim - 1)) if by_row else array.shape for name, array in weights.items()}
    return {name: 1 - rng.random(shape, dtype=np.float32) for name, shape in shapes.items()}
