"""Masks by what they cost in the file: a kept weight takes a code, and a position that is dearer where few are kept.

Which weights are worth their bits is a question of rate and distortion: those with the largest w^2 / bits are kept, so
long as there are bits. The bits of a position follow from how full its row and its column are, and so from the masks
themselves; they are found in a few rounds, and held against what the encoder's own plan says.
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np

from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.checkpoints.layers import Aliases
from dcomp.coding import positions, sparse_index
from dcomp.coding.level import DEFAULT
from dcomp.coding.record import matrix_of
from dcomp.container import writer
from dcomp.errors import UsageError
from dcomp.pruning.budget import Score, Weights

ROUNDS = 4
"""Of costs and masks that follow from each other."""

GUESS = 5.0
"""Bits of a position, before anything is known of them."""

Masks = dict[str, np.ndarray]


class ByteBudget:
    """What a checkpoint's file may take, and what it takes besides the weights that are pruned; metadata aside.

    Attributes:
        sparsity: the part of the dense bytes that the file is not to take.
        initial_sparsity: the part that it does not take with the weights as they were found.
    """

    def __init__(self, tensors: Weights, aliases: Sequence[Aliases], ratio: float, code_bits: int) -> None:
        """Measure the file without those weights.

        Args:
            tensors: all of the checkpoint.
            aliases: the names of each tensor that is pruned.
            ratio: of the dense bytes to those of the file.
            code_bits: of a kept weight's code; a codebook of 2^code_bits values is counted for each tensor.

        Raises:
            UsageError: without any weight the file is too large already.
        """
        self._code_bits = code_bits
        self._dense = sum(array.nbytes for array in tensors.values())
        pruned = [name for names in aliases for name in names]
        codebooks = sum(min(2**code_bits, tensors[name].size) * tensors[name].itemsize for name, *_ in aliases)
        self._besides = codebooks + _file_size({**tensors, **{name: np.zeros_like(tensors[name]) for name in pruned}})
        self.sparsity = 1 - 1 / ratio
        if self._besides + (code_bits + GUESS) / 8 >= self._dense / ratio:  # not one weight could be kept
            raise UsageError(
                f"target_ratio {ratio:g} leaves {self._dense / ratio:,.0f} bytes, and codebooks and what is not pruned "
                f"take {self._besides:,}: prune biases too (kinds conv,linear,bias), or ask for fewer code_bits or less"
            )
        self.initial_sparsity = self.sparsity_of({name: tensors[name] != 0 for name, *_ in aliases})

    def sparsity_of(self, masks: Mapping[str, np.ndarray]) -> float:
        """The part of the dense bytes that the file with these masks does not take."""
        return 1 - (self._besides + self._bits(masks) / 8) / self._dense

    def masks(self, weights: Weights, sparsity: float, score: Score) -> Masks:
        """The masks that keep most within the bytes that a sparsity of bytes leaves."""
        allowed = 8 * ((1 - sparsity) * self._dense - self._besides)
        scores = {name: score(name, array).astype(np.float64) ** 2 for name, array in weights.items()}
        costs = {name: np.full(array.shape, self._code_bits + GUESS) for name, array in weights.items()}
        masks = _worthiest(scores, costs, allowed)
        for _ in range(ROUNDS - 1):
            costs = {name: self._code_bits + _position_bits(mask) for name, mask in masks.items()}
            spent = _spent(masks, costs)
            correction = self._bits(masks) / spent if spent else 1.0
            masks = _worthiest(scores, costs, allowed / correction)
        return masks

    def _bits(self, masks: Mapping[str, np.ndarray]) -> float:
        """What codes and positions of the kept weights take, as the encoder plans them."""
        return sum(self._code_bits * int(mask.sum()) + _planned_bits(mask) for mask in masks.values())


def _file_size(tensors: Weights) -> int:
    file = io.BytesIO()
    writer.write(Checkpoint(tensors, {}), file)
    return len(file.getvalue())


def _planned_bits(mask: np.ndarray) -> float:
    """Bits of a mask's positions, rows or columns first, whichever is less."""
    if not mask.any():
        return 0.0
    matrix = mask.reshape(matrix_of(mask.shape, columns_first=False))
    planned = []
    for turned in (matrix, matrix.T):
        gaps = sparse_index.gaps_of(np.flatnonzero(turned))
        planned.append(positions.choose_position_coding(gaps, turned.shape, DEFAULT).bits)
    return min(planned)


def _position_bits(mask: np.ndarray) -> np.ndarray:
    """What one more weight at each place would add to the entropy of the positions, in bits.

    That is log2((1 - p) / p), where p, the part that is kept there, is what row and column have in common if they are
    independent.
    """
    matrix = mask.reshape(matrix_of(mask.shape, columns_first=False))
    rows, columns = matrix.sum(1) + 0.5, matrix.sum(0) + 0.5
    density = np.minimum(np.outer(rows, columns) / (matrix.sum() + 1), 0.5)
    return np.log2((1 - density) / density).reshape(mask.shape)


def _spent(masks: Mapping[str, np.ndarray], costs: Mapping[str, np.ndarray]) -> float:
    return sum(float(costs[name][mask].sum()) for name, mask in masks.items())


def _worthiest(scores: Mapping[str, np.ndarray], costs: Mapping[str, np.ndarray], allowed: float) -> Masks:
    """The masks that keep what scores most for its cost, until the allowed cost is spent."""
    cost = np.concatenate([costs[name].reshape(-1) for name in scores])
    worth = np.concatenate([own.reshape(-1) for own in scores.values()]) / cost
    order = np.argsort(-worth, kind="stable")
    order = order[: np.count_nonzero(worth)]
    order = order[: np.searchsorted(np.cumsum(cost[order]), allowed, side="right")]
    kept = np.zeros(cost.size, bool)
    kept[order] = True
    ends = np.cumsum([own.size for own in scores.values()])[:-1]
    return {name: part.reshape(scores[name].shape) for name, part in zip(scores, np.split(kept, ends), strict=True)}
