"""Masks for a file of a given size: a kept weight costs the bits of its code and of its position.

A position costs more bits in a row or column that keeps few weights. The weights of the largest saliency per bit are
kept until the bits are spent (rate against distortion). Costs depend on the masks, and masks on the costs, so each of
`ROUNDS` computes both; then the costs are scaled to the bits that the encoder needs for these masks.

This is the one place where pruning asks the encoder for sizes.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.checkpoints.layers import Aliases
from dcomp.coding import positions, sparse_index
from dcomp.coding.level import DEFAULT
from dcomp.coding.record import matrix_of
from dcomp.container import writer
from dcomp.errors import UsageError
from dcomp.pruning import ranking
from dcomp.pruning.budget import ScoresOf, Weights

ROUNDS = 4
"""How often masks are computed from costs."""

FIRST_POSITION_BITS = 5.0
"""Bits of a position in the first round, before there are masks."""

Masks = dict[str, np.ndarray]


class ByteBudget:
    """The bytes of a checkpoint's file, without its metadata, that are left for the weights to prune.

    A *sparsity of bytes* is the fraction of the dense bytes that the file saves.

    Attributes:
        sparsity: of bytes, for the ratio.
        initial_sparsity: of bytes, with the zeros that the weights have at first.
    """

    def __init__(
        self,
        tensors: Weights,
        aliases: Sequence[Aliases],
        ratio: float,
        code_bits: int,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Measure the file without the weights to prune.

        Args:
            tensors: all of the checkpoint.
            aliases: the names of each tensor to prune.
            ratio: of the dense bytes to those of the file.
            code_bits: of a kept weight's code; a codebook of 2^code_bits values is counted for each tensor.
            facts: of a budget with the same arguments, whose tensors have changed since.

        Raises:
            UsageError: the file is too large even without these weights.
        """
        self._code_bits = code_bits
        self._dense = sum(array.nbytes for array in tensors.values())
        self.sparsity = 1 - 1 / ratio
        if facts is not None:
            self._fixed, self.initial_sparsity = int(facts["fixed"]), float(facts["initial_sparsity"])
            return
        pruned = [name for names in aliases for name in names]
        codebooks = sum(min(2**code_bits, tensors[name].size) * tensors[name].itemsize for name, *_ in aliases)
        self._fixed = codebooks + _file_size({**tensors, **{name: np.zeros_like(tensors[name]) for name in pruned}})
        if self._fixed + (code_bits + FIRST_POSITION_BITS) / 8 >= self._dense / ratio:  # not one weight could be kept
            raise UsageError(
                f"target_ratio {ratio:g} leaves {self._dense / ratio:,.0f} bytes, and codebooks and what is not pruned "
                f"take {self._fixed:,}: prune biases too (kinds conv,linear,bias), or ask for fewer code_bits or less"
            )
        self.initial_sparsity = self.sparsity_of({name: tensors[name] != 0 for name, *_ in aliases})

    def facts(self) -> dict[str, Any]:
        """Return what depends on the tensors as they were at first, as plain data."""
        return {"fixed": int(self._fixed), "initial_sparsity": float(self.initial_sparsity)}

    def sparsity_of(self, masks: Mapping[str, np.ndarray]) -> float:
        """Return the sparsity of bytes with these masks."""
        return 1 - (self._fixed + self._bits(masks) / 8) / self._dense

    def masks(self, weights: Weights, sparsity: float, scores_of: ScoresOf) -> Masks:
        """Return the masks of the largest saliency that fit the bytes of a sparsity of bytes."""
        allowed = 8 * ((1 - sparsity) * self._dense - self._fixed)
        saliencies = {name: ranking.saliency(scores_of(name, array)) for name, array in weights.items()}
        costs = {name: np.full(array.shape, self._code_bits + FIRST_POSITION_BITS) for name, array in weights.items()}
        masks = _best_masks(saliencies, costs, allowed)
        for _ in range(ROUNDS - 1):
            costs = {name: self._code_bits + _position_bits(mask) for name, mask in masks.items()}
            estimate = _total_cost(masks, costs)
            correction = self._bits(masks) / estimate if estimate else 1.0
            masks = _best_masks(saliencies, costs, allowed / correction)
        return masks

    def _bits(self, masks: Mapping[str, np.ndarray]) -> float:
        """Return the bits that the encoder needs for codes and positions of the kept weights."""
        return sum(self._code_bits * int(mask.sum()) + _encoded_bits(mask) for mask in masks.values())


def _file_size(tensors: Weights) -> int:
    """Return the bytes of the tensors as a .dcz file."""
    file = io.BytesIO()
    writer.write(Checkpoint(tensors, {}), file)
    return len(file.getvalue())


def _encoded_bits(mask: np.ndarray) -> float:
    """Return the bits of a mask's positions, rows first or columns first, whichever is less."""
    if not mask.any():
        return 0.0
    matrix = mask.reshape(matrix_of(mask.shape, columns_first=False))
    bits = []
    for ordered in (matrix, matrix.T):
        gaps = sparse_index.gaps_of(np.flatnonzero(ordered))
        bits.append(positions.choose_position_coding(gaps, ordered.shape, DEFAULT).bits)
    return min(bits)


def _position_bits(mask: np.ndarray) -> np.ndarray:
    """Return the bits that one more weight at each place adds to the entropy of the positions.

    That is log2((1 - p) / p), where p is the density that row and column predict if they are independent.
    """
    matrix = mask.reshape(matrix_of(mask.shape, columns_first=False))
    rows, columns = matrix.sum(1) + 0.5, matrix.sum(0) + 0.5
    density = np.minimum(np.outer(rows, columns) / (matrix.sum() + 1), 0.5)
    return np.log2((1 - density) / density).reshape(mask.shape)


def _total_cost(masks: Mapping[str, np.ndarray], costs: Mapping[str, np.ndarray]) -> float:
    """Return the cost of all kept weights, in bits."""
    return sum(float(costs[name][mask].sum()) for name, mask in masks.items())


def _best_masks(saliencies: Mapping[str, np.ndarray], costs: Mapping[str, np.ndarray], allowed: float) -> Masks:
    """Return the masks that keep the largest saliencies per cost, until the allowed cost is spent."""
    cost = np.concatenate([costs[name].reshape(-1) for name in saliencies])
    saliency_per_bit = np.concatenate([array.reshape(-1) for array in saliencies.values()]) / cost
    best_first = np.argsort(-saliency_per_bit, kind="stable")[: np.count_nonzero(saliency_per_bit)]
    count = np.searchsorted(np.cumsum(cost[best_first]), allowed, side="right")
    kept = np.zeros(cost.size, bool)
    kept[best_first[:count]] = True
    ends = np.cumsum([array.size for array in saliencies.values()])[:-1]
    masks = zip(saliencies.items(), np.split(kept, ends), strict=True)
    return {name: mask.reshape(array.shape) for (name, array), mask in masks}
