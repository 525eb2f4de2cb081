"""What a command did, as one JSON document (`--json`)."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dcomp.cli.console import print_result
from dcomp.progress.csv_log import COLUMNS
from dcomp.progress.observer import ChosenEpoch, EpochRecord, Observer

if TYPE_CHECKING:
    import numpy as np

    from dcomp.checkpoints.checkpoint import Checkpoint
    from dcomp.cli.destinations import Destination


class Recorder(Observer):
    """An observer that remembers what it is told.

    Attributes:
        notes: each in one line.
        epochs: those of the history first.
        choice: the epoch that the last training ends with.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.epochs: list[EpochRecord] = []
        self.choice: ChosenEpoch | None = None

    def note(self, text: str) -> None:
        """Remember it."""
        self.notes.append(text)

    def started(self, steps: int, history: Sequence[EpochRecord] = (), epochs: int = 0) -> None:
        """Begin with the epochs before."""
        self.epochs = list(history)

    def finished_epoch(self, record: EpochRecord) -> None:
        """Remember it."""
        self.epochs.append(record)

    def chose_epoch(self, choice: ChosenEpoch) -> None:
        """Remember it, and its warning."""
        self.choice = choice
        self.notes += [text for text in (choice.reason, choice.warning) if text is not None]

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        epochs = [{name: getattr(record, name) for name in COLUMNS} for record in self.epochs]
        return {"epochs": epochs, "kept_epoch": asdict(self.choice) if self.choice else None, "notes": self.notes}


def print_document(command: str, written: "Destination | None", content: Mapping[str, Any]) -> None:
    """Print the document: the command, the path that was written (null: none), its bytes, and what else is given."""
    document = {"command": command, "path": str(written.path) if written else None, **content}
    if written is not None:
        document["bytes"] = written.bytes
    print_result(json.dumps(_finite(document), indent=2))


def describe_checkpoint(checkpoint: "Checkpoint", *, count_values: bool = False) -> dict[str, Any]:
    """Describe a checkpoint: its sparsity, and each tensor's; with `count_values` also how many values share a tensor.

    Returns:
        `sparsity`, of all weights that are no biases, and `tensors`: name, dtype, shape, sparsity, and where values
        are counted `values`, how many differ without zero, and `bits`, what an index into them takes; both are null
        where no two elements that are not zero have the same value.
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
    """Replace numbers that JSON does not have by null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
