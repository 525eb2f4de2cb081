"""Weights that another implementation of the paper holds as shared values and codes, restored to ordinary weights.

It replaces the tensor `X.weight` by `X.weight_centers`, its shared values, shape (k, 1) or (k,), and
`X.weight_indices`, a code for each kept weight in row-major order. Its positions and its shape are those of
`X.weight_mask`; an unpruned weight needs another tensor that has the shape.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dcomp.checkpoints.prefixes import MASK, ORIGINAL
from dcomp.checkpoints.tensors import Spec, Tensors
from dcomp.errors import CheckpointError

CENTERS, INDICES = "_centers", "_indices"
"""Ends of the names of the shared values and the codes of a weight."""


@dataclass(frozen=True)
class _Parts:
    """The names of the tensors that hold one weight, and its dtype and shape."""

    weight: str
    mask: str | None
    original: str | None
    spec: Spec

    @property
    def centers(self) -> str:
        return self.weight + CENTERS

    @property
    def indices(self) -> str:
        return self.weight + INDICES

    @property
    def names(self) -> set[str]:
        return {self.weight, self.centers, self.indices, self.weight + MASK, self.weight + ORIGINAL}


def merged(tensors: Tensors) -> Tensors:
    """Return the tensors with one weight in the place of its shared values, codes and mask; it is read when indexed.

    Raises:
        CheckpointError: the file lacks the shape of a weight; at indexing, codes fit neither the values nor the mask.
    """
    parts_of = {parts.weight: parts for parts in _all_parts(tensors.specs)}
    if not parts_of:
        return tensors
    weight_of = {name: parts.weight for parts in parts_of.values() for name in parts.names}
    names = dict.fromkeys(weight_of.get(name, name) for name in tensors)
    specs = {name: parts_of[name].spec if name in parts_of else tensors.specs[name] for name in names}

    def read(names: Sequence[str]) -> list[np.ndarray]:
        return [_restored(parts_of[name], tensors) if name in parts_of else tensors[name] for name in names]

    return Tensors(specs, read)


def _all_parts(specs: Mapping[str, Spec]) -> Iterator[_Parts]:
    """Yield the parts of each weight or bias that is held as shared values and codes."""
    for name, spec in specs.items():
        weight = name.removesuffix(CENTERS)
        codes = specs.get(weight + INDICES)
        is_weight = name.endswith(CENTERS) and weight.split(".")[-1] in ("weight", "bias")
        is_column = len(spec.shape) in (1, 2) and spec.size == spec.shape[0]
        if is_weight and is_column and codes is not None and codes.dtype.kind in "iu":
            yield _parts(weight, spec.dtype, specs)


def _parts(weight: str, dtype: np.dtype, specs: Mapping[str, Spec]) -> _Parts:
    mask = weight + MASK if weight + MASK in specs else None
    original = next((name for name in (weight + ORIGINAL, weight) if name in specs), None)
    shapes = {specs[name].shape for name in (mask, original) if name is not None}
    if not shapes and len(specs[weight + INDICES].shape) > 1:
        shapes = {specs[weight + INDICES].shape}
    if not shapes:
        raise CheckpointError(
            f"the file holds {weight!r} as values and codes, and not its shape, which only {weight + MASK!r} or "
            f"{weight + ORIGINAL!r} would say: set the layer's weight to its values again, and save that state_dict()"
        )
    if len(shapes) > 1:
        raise CheckpointError(f"the mask and the original of {weight!r} have two shapes: {sorted(shapes)}")
    return _Parts(weight, mask, original, Spec(dtype, shapes.pop()))


def _restored(parts: _Parts, tensors: Tensors) -> np.ndarray:
    """Return a weight: the shared values at the positions that are kept, and zeros."""
    centers, codes = tensors[parts.centers].reshape(-1), tensors[parts.indices].reshape(-1)
    if codes.size and not 0 <= codes.min() <= codes.max() < centers.size:
        raise CheckpointError(
            f"{parts.indices!r} has codes from {codes.min()} to {codes.max()}, and {parts.centers!r} has "
            f"{centers.size} values; the file is damaged"
        )
    weight = np.zeros(parts.spec.size, centers.dtype)
    weight[_positions(parts, tensors, codes.size)] = centers[codes]
    return weight.reshape(parts.spec.shape)


def _positions(parts: _Parts, tensors: Tensors, count: int) -> slice | np.ndarray:
    """Return where the weights with a code are: where the mask is not zero, everywhere, or where the original is not.

    Raises:
        CheckpointError: there are more or fewer than codes.
    """
    if parts.mask is None and count == parts.spec.size:
        return slice(None)
    kept = parts.mask or parts.original
    positions = np.flatnonzero(tensors[kept]) if kept is not None else np.empty(0, np.int64)
    if positions.size != count:
        raise CheckpointError(
            f"{parts.indices!r} has {count:,} codes for {positions.size:,} weights that "
            f"{kept or parts.weight!r} keeps; the file is damaged"
        )
    return positions
