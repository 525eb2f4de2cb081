"""A checkpoint: named arrays and metadata."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from dcomp.checkpoints import dtypes, tensors

ARCHITECTURE_KEY = "dcomp.architecture"
"""Key of the metadata entry that names the network of a checkpoint."""


@dataclass
class Checkpoint:
    """Named tensors and string metadata; both keep the order of their file."""

    tensors: Mapping[str, np.ndarray]
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Return the bytes of the dense tensors: the numerator of every compression ratio."""
        return sum(spec.nbytes for spec in tensors.specs_of(self.tensors).values())

    def kept_percent(self) -> float:
        """Return the elements of all tensors that are not zero, in percent; each tensor is read once."""
        size = sum(spec.size for spec in tensors.specs_of(self.tensors).values())
        kept = sum(dtypes.count_not_zero(array) for _, array in tensors.stream(self.tensors))
        return 100 * kept / size if size else 0.0

    def replaced(self, changed: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> "Checkpoint":
        """Return a copy with some tensors and metadata replaced; the other tensors are shared and stay lazy."""
        return Checkpoint(tensors.replaced(self.tensors, changed), {**self.metadata, **(metadata or {})})
