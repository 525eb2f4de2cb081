"""Checkpoints that torch saved (.pt, .pth, .bin, Lightning's .ckpt), read without running code in them."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from dcomp.checkpoints import shared_codes, tensors
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.checkpoints.prefixes import merged_names, pairs
from dcomp.checkpoints.tensors import Spec, Tensors
from dcomp.container.layout import shape_problem
from dcomp.container.reader import DEFAULT_MAX_MEMORY
from dcomp.errors import CheckpointError, first_line
from dcomp.learning import masked
from dcomp.learning.conversion import tensor_specs, to_numpy, to_torch
from dcomp.learning.torch_contents import network_tensors
from dcomp.learning.torch_records import Filled, Records, Storages

REFUSED = ("GLOBAL", "unrecognized function", "Can only create", "TorchScript")
"""Words in torch's messages about files that run code when they are read."""

MAX_REPEATED_BYTES = 1 << 30
"""Bytes that expanded tensors may take beyond twice those of the file, even if the limit of memory is higher."""

ZIP_MAGIC = b"PK\x03\x04"


def load_file(
    path: Path,
    *,
    max_memory: int = DEFAULT_MAX_MEMORY,
    key: str | None = None,
    note: Callable[[str], object] = lambda text: None,
) -> Checkpoint:
    """Open a file that `torch.save` wrote; each tensor is read when it is indexed.

    Of several dictionaries that hold tensors, the one of the network is read.

    Args:
        path: of the file.
        max_memory: bytes that compressed records may take when they are unpacked.
        key: of the network in the file, if it has several.
        note: gets a line about tensors that are left out.

    Raises:
        CheckpointError: it holds no tensors, or several networks and no `key`; it holds more than tensors and plain
            values, which would run code when it is read; torch refuses it; or tensors are no plain arrays.
    """
    storages, content = _read(path, max_memory)
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, not named tensors; save a dictionary, like a state_dict()"
        )
    tensors = network_tensors(content, path, note, key)
    specs = tensor_specs(tensors)
    for name, spec in specs.items():
        if problem := shape_problem(spec.shape):
            raise CheckpointError(f"tensor {name!r} {problem}")
    _check_memory(specs, path, tensors, max_memory)
    storages.check(tensors)
    return _checkpoint(tensors, specs, storages.read)


def save(checkpoint: Checkpoint, stream: BinaryIO, on_tensor: Callable[[int], object] = lambda nbytes: None) -> None:
    """Write the tensors as a state_dict() that `torch.load(weights_only=True)` reads; all are in memory at once.

    Args:
        checkpoint: its metadata are left out.
        stream: the file.
        on_tensor: called with the bytes of each tensor before all are written.

    Raises:
        CheckpointError: this torch has no such dtype.
        OSError: the file cannot be written.
    """
    state = {}
    for name, array in tensors.stream(checkpoint.tensors):
        state[name] = to_torch(array)
        on_tensor(array.nbytes)
    try:
        torch.save(state, stream)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # torch hides a full disk
            raise error.__context__ from error
        raise


def _read(path: Path, max_memory: int) -> tuple[Storages, object]:
    """Return the storages of the tensors in a file, and what torch unpickles."""
    with _refusals(path), warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")  # they are for the authors of files
        if file.read(len(ZIP_MAGIC)) != ZIP_MAGIC:
            return _read_older_format(file, path)
        records = Records(path, max_memory)
        return records, _unpickled(file, records)


def _read_older_format(file: BinaryIO, path: Path) -> tuple[Storages, object]:
    """Read a file twice, into memory of zeros and of ones: where they differ, the file has no data.

    Raises:
        CheckpointError: the data of tensors are missing.
    """
    zeros = Filled(path, 0)
    _unpickled(file, zeros)
    checksums = zeros.checksums()
    del zeros  # and the memory with it
    ones = Filled(path, 255)
    content = _unpickled(file, ones)
    if ones.checksums() != checksums:
        raise CheckpointError(f"{path} is not a readable torch checkpoint: the data of tensors are missing")
    return ones, content


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Raise CheckpointError for any error of torch in a block."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # the unpickler may raise anything
        if any(words in str(error) for words in REFUSED):
            raise CheckpointError(
                f"{path} holds pickled objects, which can run code when read, and is refused; "
                "where you trust it, load it by torch and save its state_dict()"
            ) from error
        raise CheckpointError(f"{path} is not a readable torch checkpoint: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return why torch refuses a file, without its advice to run what the file says."""
    *_, reason = str(error).partition("WeightsUnpickler error:")
    return reason.strip().splitlines()[0] if reason.strip() else first_line(error)


def _unpickled(file: BinaryIO, storages: Storages) -> object:
    file.seek(0)
    place: Any = storages.place  # torch's annotation asks for a class that no storage has
    return torch.load(file, map_location=place, weights_only=True, mmap=False)


def _check_memory(specs: Mapping[str, Spec], path: Path, tensors: Mapping[str, torch.Tensor], max_memory: int) -> None:
    """Raise CheckpointError for tensors that repeat their elements to far more bytes than the file, packed or not."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors.values()}
    needed, stored = sum(spec.nbytes for spec in specs.values()), max(path.stat().st_size, sum(storages.values()))
    limit = 2 * stored + min(max_memory, MAX_REPEATED_BYTES)
    if needed > limit:
        raise CheckpointError(
            f"the tensors of {path} repeat {stored:,} bytes until they take {needed:,}, more than the limit of "
            f"{limit:,}; save what they were expanded from"
        )


def _checkpoint(
    tensors: Mapping[str, torch.Tensor], specs: Mapping[str, Spec], array_of: Callable[[torch.Tensor], np.ndarray]
) -> Checkpoint:
    """Return a checkpoint of the tensors, where weights that are held in parts are merged."""
    parts = shared_codes.merged(Tensors(specs, lambda names: [array_of(tensors[name]) for name in names]))
    pruned = pairs({name: spec.shape for name, spec in parts.specs.items()})

    def read(name: str) -> np.ndarray:
        if name not in pruned:
            return parts[name]
        original, mask = (to_torch(parts[half]) for half in pruned[name])
        return to_numpy(masked.product(original, mask, name))

    visible = {weight: parts.specs[name] for name, weight in merged_names(parts.specs, pruned).items()}
    return Checkpoint(Tensors(visible, lambda names: [read(name) for name in names]))
