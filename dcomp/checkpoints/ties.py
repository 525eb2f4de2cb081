"""Tied tensors: several names for the same bytes."""

from collections.abc import Mapping

import numpy as np

from dcomp.checkpoints import dtypes, tensors

PIECE = 64
"""Bytes at both ends of a tensor. Only tensors with equal ends are compared in full."""


def find(checkpoint_tensors: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Map each tensor that has the bytes of an earlier tensor to that tensor; dtypes and shapes may differ.

    Empty tensors are never tied. Only tensors of the same size are read.
    """
    names_of_size: dict[int, list[str]] = {}
    for name, spec in tensors.specs_of(checkpoint_tensors).items():
        names_of_size.setdefault(spec.nbytes, []).append(name)
    ties: dict[str, str] = {}
    for nbytes, names in names_of_size.items():
        if nbytes > 0 and len(names) > 1:
            ties |= _among(checkpoint_tensors, names)
    return ties


def _among(checkpoint_tensors: Mapping[str, np.ndarray], names: list[str]) -> dict[str, str]:
    """Find the ties among tensors of one size."""
    ties: dict[str, str] = {}
    untied_with_ends: dict[bytes, list[str]] = {}
    for name in names:
        data = _bytes(checkpoint_tensors[name])
        earlier = untied_with_ends.setdefault(data[:PIECE].tobytes() + data[-PIECE:].tobytes(), [])
        same = next((first for first in earlier if np.array_equal(_bytes(checkpoint_tensors[first]), data)), None)
        if same is None:
            earlier.append(name)
        else:
            ties[name] = same
    return ties


def _bytes(array: np.ndarray) -> np.ndarray:
    return dtypes.bit_patterns(array).view(np.uint8)
