"""The JSON document that `--json` prints: what a command wrote, and what it noted."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dcomp.cli.console import print_result
from dcomp.progress.observer import ChosenEpoch, EpochRecord, Observer

if TYPE_CHECKING:
    import numpy as np

    from dcomp.checkpoints.checkpoint import Checkpoint
    from dcomp.cli.destinations import Destination


class Recorder(Observer):
    """An observer that keeps notes and epochs for the document.

    Attributes:
        notes: the notes, a line each.
        epochs: the epochs of the last training, those before a resumption included.
        choice: the epoch that the last training ends with; None without a training.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.epochs: list[EpochRecord] = []
        self.choice: ChosenEpoch | None = None

    def note(self, text: str) -> None:
        """Keep a note."""
        self.notes.append(text)

    def started(self, steps: int, history: Sequence[EpochRecord] = (), epochs: int = 0) -> None:
        """Start again with the epochs before."""
        self.epochs = list(history)

    def finished_epoch(self, record: EpochRecord) -> None:
        """Keep an epoch."""
        self.epochs.append(record)

    def chose_epoch(self, choice: ChosenEpoch) -> None:
        """Keep the choice, and its reason and warning as notes."""
        self.choice = choice
        self.notes += [text for text in (choice.reason, choice.warning) if text is not None]

    def as_dict(self) -> dict[str, Any]:
        """Return epochs, choice and notes as plain data."""
        epochs = [record.figures() for record in self.epochs]
        return {"epochs": epochs, "kept_epoch": self.choice.as_dict() if self.choice else None, "notes": self.notes}


def print_document(command: str, written: "Destination | None", content: Mapping[str, Any]) -> None:
    """Print the document: the command, the path that it wrote or null, the bytes of that file, and `content`."""
    document = {"command": command, "path": str(written.path) if written else None, **content}
    if written is not None:
        document["bytes"] = written.bytes
    print_result(json.dumps(_finite(document), indent=2))


def describe_checkpoint(checkpoint: "Checkpoint", *, count_values: bool = False) -> dict[str, Any]:
    """Return a description of a checkpoint.

    Returns:
        `sparsity`, the fraction of zeros in all weights that are no biases, and `tensors`, with the name, dtype, shape
        and sparsity of each. With `count_values` also `values`, the number of different values but zero, and `bits`,
        the bits of a code for them; both are null if all elements that are not zero differ.
    """
    from dcomp.checkpoints import layers
    from dcomp.pruning.budget import sparsity_of

    weights = layers.select(checkpoint.tensors, layers.WEIGHTS)
    tensors = [_tensor(name, array, count_values=count_values) for name, array in checkpoint.tensors.items()]
    return {"sparsity": sparsity_of(checkpoint.tensors, weights) if weights else 0.0, "tensors": tensors}


def _tensor(name: str, array: "np.ndarray", *, count_values: bool) -> dict[str, Any]:
    import numpy as np

    from dcomp.checkpoints.dtypes import NAME_OF, count_not_zero

    kept = count_not_zero(array)
    sparsity = 1 - kept / array.size if array.size else 0.0
    described = {"name": name, "dtype": NAME_OF[array.dtype], "shape": list(array.shape), "sparsity": sparsity}
    if count_values:
        values = np.unique(array[array != 0]).size
        is_shared = values < kept or not values
        bits = max(values - 1, 0).bit_length()
        described |= {"values": values if is_shared else None, "bits": bits if is_shared else None}
    return described


def _finite(value: Any) -> Any:
    """Return a value with null in place of NaN and infinity, which JSON lacks."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
