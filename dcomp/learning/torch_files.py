"""Checkpoints that torch saved (.pt, .pth, .bin, Lightning's .ckpt), read without running code in them."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.checkpoints.prefixes import merged_names, pairs
from dcomp.checkpoints.safetensors_file import METADATA_KEY
from dcomp.checkpoints.tensors import Spec, Tensors, is_text
from dcomp.container.layout import shape_problem
from dcomp.container.reader import DEFAULT_MAX_MEMORY
from dcomp.errors import CheckpointError, first_line
from dcomp.learning import masked
from dcomp.learning.conversion import numpy_dtype, to_numpy, to_torch
from dcomp.learning.torch_records import Filled, Records, Storages

NETWORK_KEYS = ("state_dict", "model", "model_state")
"""Keys under which training loops keep a network's state, beside states of other things."""

MAX_NESTING = 32
"""Levels of nested dictionaries and lists at most."""

REFUSED = ("GLOBAL", "unrecognized function", "Can only create", "TorchScript")
"""Words in torch's messages about files that run code when they are read."""

MOST_ENTRIES = 1 << 17
"""Entries of nested dictionaries and lists at most, unless the file has more bytes than that."""

MAX_REPEATED_BYTES = 1 << 30
"""Bytes that expanded tensors may take beyond twice those of the file, even if the limit of memory is higher."""

ZIP_MAGIC = b"PK\x03\x04"
Keys = tuple[Any, ...]
"""The keys and places that lead to a value in nested dictionaries, lists and tuples."""

KeyedTensor = tuple[Keys, torch.Tensor]
"""A tensor in a file, and the keys that lead to it."""


def load_file(
    path: Path, *, max_memory: int = DEFAULT_MAX_MEMORY, note: Callable[[str], object] = lambda text: None
) -> Checkpoint:
    """Open a file that `torch.save` wrote; each tensor is read when it is indexed.

    Nested dictionaries and lists give names with dots between keys and places. Where the tensors of a network are
    under one of `NETWORK_KEYS`, only they are read.

    Args:
        path: of the file.
        max_memory: bytes that compressed records may take when they are unpacked.
        note: gets a line about tensors that are left out.

    Raises:
        CheckpointError: it holds no tensors; it holds more than tensors and plain values, which would run code when
            it is read; torch refuses it; or tensors are no plain arrays.
    """
    storages, content = _read(path, max_memory)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not named tensors")
    tensors = _network_tensors(content, path, note)
    specs = {name: Spec(numpy_dtype(tensor, name), tuple(tensor.shape)) for name, tensor in tensors.items()}
    for name, spec in specs.items():
        if problem := shape_problem(spec.shape):
            raise CheckpointError(f"tensor {name!r} {problem}")
    _check_memory(specs, path, tensors, max_memory)
    storages.check(tensors)
    return _checkpoint(tensors, specs, storages.read)


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
                "save its state_dict() as safetensors where you trust it"
            ) from error
        raise CheckpointError(f"{path} is not a readable torch checkpoint: {first_line(error)}") from error


def _unpickled(file: BinaryIO, storages: Storages) -> object:
    file.seek(0)
    place: Any = storages.place  # torch's annotation asks for a class that no storage has
    return torch.load(file, map_location=place, weights_only=True, mmap=False)


def _network_tensors(content: dict[Any, Any], path: Path, note: Callable[[str], object]) -> dict[str, torch.Tensor]:
    """Return the tensors of a network by name: those under the first key of `NETWORK_KEYS` that has any, else all."""
    entries = list(_tensors(content, max(MOST_ENTRIES, path.stat().st_size)))
    if not entries:
        raise CheckpointError(f"{path} holds no tensors")
    tensors: dict[str, torch.Tensor] = {}
    for keys, tensor in _of_network(entries, path, note):
        name = _name(keys)
        if name in tensors:
            raise CheckpointError(f"{path} holds two tensors whose keys both give the name {name!r}; rename one")
        tensors[name] = tensor
    return tensors


def _of_network(entries: list[KeyedTensor], path: Path, note: Callable[[str], object]) -> list[KeyedTensor]:
    """Return the tensors under a key of `NETWORK_KEYS`, without that key, and note which are left out; else all."""
    for network_key in NETWORK_KEYS:
        if any(len(keys) > 1 and keys[0] == network_key for keys, _ in entries):
            left_out = dict.fromkeys(repr(keys[0]) for keys, _ in entries if keys[0] != network_key)
            if left_out:
                left_out_keys = ", ".join(left_out)
                note(f"{path}: the tensors under {network_key!r} are read, those under {left_out_keys} are left out")
            entries = [(keys[1:], tensor) for keys, tensor in entries if keys[0] == network_key and len(keys) > 1]
    return entries


def _tensors(content: object, most: int) -> Iterator[KeyedTensor]:
    """Yield all tensors in nested dictionaries, lists and tuples, each with its keys.

    Raises:
        CheckpointError: more than `most` entries, too many levels, or tensors in a set.
    """
    pending: list[Iterator[tuple[Keys, object]]] = [iter([((), content)])]
    entries = 0
    while pending:
        entry = next(pending[-1], None)
        if entry is None:
            pending.pop()
            continue
        keys, value = entry
        entries += 1
        if entries > most or len(keys) > MAX_NESTING:
            raise CheckpointError(f"the file nests its entries too often ({entries:,}) or too deeply ({len(keys)})")
        if isinstance(value, torch.Tensor):
            yield keys, value
        else:
            pending.append(_children(keys, value))


def _children(keys: Keys, value: object) -> Iterator[tuple[Keys, object]]:
    """Yield the values in a dictionary, list or tuple that has these keys, each with its keys."""
    if isinstance(value, dict):
        yield from (((*keys, key), child) for key, child in value.items())
    elif isinstance(value, list | tuple):
        yield from (((*keys, place), child) for place, child in enumerate(value))
    elif isinstance(value, torch.UntypedStorage | torch.storage.TypedStorage):
        raise CheckpointError("the file holds a storage, which is data without dtype and shape; save named tensors")
    elif isinstance(value, set) and any(isinstance(entry, torch.Tensor) for entry in value):
        raise CheckpointError("the file holds a set of tensors, which have no names; save named tensors")


def _name(keys: Keys) -> str:
    for key in keys:
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise CheckpointError(f"a tensor has the key {key!r}, which is neither a string nor an integer")
    name = ".".join(map(str, keys))
    if not is_text(name):
        raise CheckpointError(f"{name!r} is the name of a tensor, and no string that UTF-8 can hold")
    if name == METADATA_KEY:
        raise CheckpointError(f"a tensor is called {METADATA_KEY!r}, which no safetensors file can hold; rename it")
    return name


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
    """Return a checkpoint of the tensors, where weights that torch holds in two parts are merged."""
    pruned = pairs({name: spec.shape for name, spec in specs.items()})

    def read(name: str) -> np.ndarray:
        if name not in pruned:
            return array_of(tensors[name])
        original, mask = (to_torch(array_of(tensors[part])) for part in pruned[name])
        return to_numpy(masked.product(original, mask, name))

    visible = {weight: specs[name] for name, weight in merged_names(specs, pruned).items()}
    return Checkpoint(Tensors(visible, lambda names: [read(name) for name in names]))
