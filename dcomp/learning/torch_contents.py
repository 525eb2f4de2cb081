"""What a file of torch holds: the tensors of one network, among optimizers, averages and other networks."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from dcomp.checkpoints.safetensors_file import METADATA_KEY
from dcomp.checkpoints.tensors import is_text
from dcomp.errors import CheckpointError

NETWORK_KEYS = ("state_dict", "model", "model_state")
"""Keys under which training loops keep a network's state; they win over all others."""

OPTIMIZER_KEYS = {"state", "param_groups"}
"""Keys of the state of an optimizer, by which it is recognized."""

OPTIMIZER_TENSORS = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "grad_avg"}
"""Names of tensors that are no weights, wherever they are."""

MAX_NESTING = 32
"""Levels of nested dictionaries and lists at most."""

MOST_ENTRIES = 1 << 17
"""Entries of nested dictionaries and lists at most, unless the file has more bytes than that."""

MOST_LISTED = 8
"""Networks that a message lists."""

Keys = tuple[Any, ...]
"""The keys and places that lead to a value in nested dictionaries, lists and tuples."""

KeyedTensor = tuple[Keys, torch.Tensor]
"""A tensor in a file, and the keys that lead to it."""


def network_tensors(
    content: dict[Any, Any], path: Path, note: Callable[[str], object], key: str | None = None
) -> dict[str, torch.Tensor]:
    """Return the tensors of a network by name; keys and places below its dictionary are joined with dots.

    It is the network under `key`, else under one of `NETWORK_KEYS`, else the only one in the file.

    Args:
        content: what torch unpickled.
        path: of the file.
        note: gets a line about tensors that are left out.
        key: of the network; dots join the keys of nested dictionaries.

    Raises:
        CheckpointError: no tensors, several networks, none under the key, or names that no checkpoint can hold.
    """
    entries = list(_tensors(content, max(MOST_ENTRIES, path.stat().st_size)))
    if not entries:
        raise CheckpointError(f"{path} holds no tensors")
    weights = [(keys, tensor) for keys, tensor in entries if not _is_of_optimizer(content, keys)]
    if not weights:
        raise CheckpointError(f"{path} holds the state of an optimizer, and no weights; name the file of the network")
    place = _place(weights, path, key)
    chosen = [(keys[len(place) :], tensor) for keys, tensor in weights if keys[: len(place)] == place]
    _note_left_out(place, [keys for keys, _ in entries], [keys for keys, _ in weights], path, note)
    tensors: dict[str, torch.Tensor] = {}
    for keys, tensor in chosen:
        name = _name(keys)
        if name in tensors:
            raise CheckpointError(f"{path} holds two tensors whose keys both give the name {name!r}; rename one")
        tensors[name] = tensor
    return tensors


def _place(entries: Sequence[KeyedTensor], path: Path, key: str | None, above: Keys = ()) -> Keys:
    """Return the keys that lead to the network to read; those above all entries are for messages.

    Raises:
        CheckpointError: several networks, or none under the key.
    """
    if key is not None:
        place = _place_of_key(entries, path, key)
        below = [(keys[len(place) :], tensor) for keys, tensor in entries if keys[: len(place)] == place]
        return place + _place(below, path, None, place)
    if usual := _usual_place(entries):
        return usual
    places = _places(entries)
    if len(places) > 1:
        raise CheckpointError(
            f"{path} holds several networks: {_listed(places, entries, above)}; choose one with --key NAME, or make a "
            "file of it with dcomp encode --key NAME"
        )
    return places[0] if places else ()


def _place_of_key(entries: Sequence[KeyedTensor], path: Path, key: str) -> Keys:
    """Return the keys of which `key` consists."""
    for keys, _ in entries:
        for count in range(1, len(keys)):
            if ".".join(map(str, keys[:count])) == key:
                return keys[:count]
    places = _places(entries) or [()]
    raise CheckpointError(f"{path} has no tensors under --key {key!r}; it has {_listed(places, entries)}")


def _usual_place(entries: Sequence[KeyedTensor]) -> Keys:
    """Return the keys of `NETWORK_KEYS` that lead to tensors, the first of each level; () if there is none."""
    place: Keys = ()
    while True:
        nested = {keys[len(place)] for keys, _ in entries if keys[: len(place)] == place and len(keys) > len(place) + 1}
        key = next((key for key in NETWORK_KEYS if key in nested), None)
        if key is None:
            return place
        place = (*place, key)


def _places(entries: Sequence[KeyedTensor]) -> list[Keys]:
    """Return the keys of the dictionaries that hold weights by name and are in no other such dictionary.

    Weights are floating tensors. Those of two dimensions or more count; if there are none, those of fewer.
    """
    for rank in (2, 1, 0):
        places = dict.fromkeys(keys[:-1] for keys, tensor in entries if _is_weight(keys, tensor, rank))
        if places:
            return [place for place in places if not any(place[:count] in places for count in range(len(place)))]
    return []


def _is_weight(keys: Keys, tensor: torch.Tensor, rank: int) -> bool:
    return isinstance(keys[-1], str) and tensor.dtype.is_floating_point and tensor.dim() >= rank


def _is_of_optimizer(content: Any, keys: Keys) -> bool:
    """Return whether the tensor that the keys lead to is part of an optimizer's state."""
    for key in keys:
        if isinstance(content, dict) and content.keys() >= OPTIMIZER_KEYS:
            return True
        content = content[key]
    return keys[-1] in OPTIMIZER_TENSORS


def _listed(places: Sequence[Keys], entries: Sequence[KeyedTensor], above: Keys = ()) -> str:
    """Return keys with the number and the bytes of the tensors under each."""
    texts = []
    for place in places[:MOST_LISTED]:
        tensors = [tensor for keys, tensor in entries if keys[: len(place)] == place]
        name = repr(".".join(map(str, (*above, *place)))) if above or place else "no key"
        texts.append(f"{name} ({len(tensors):,} tensors, {sum(map(_size, tensors)):,} bytes)")
    more = [f"{len(places) - MOST_LISTED} more"] if len(places) > MOST_LISTED else []
    return ", ".join([*texts, *more])


def _size(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()  # some kinds of tensors have no nbytes


def _note_left_out(
    place: Keys, all_keys: Sequence[Keys], weight_keys: Sequence[Keys], path: Path, note: Callable[[str], object]
) -> None:
    """Note under which keys tensors are left out: those of optimizers, and those outside of the network."""
    kept = {keys for keys in weight_keys if keys[: len(place)] == place}
    left_out = dict.fromkeys(repr(_parting(keys, place)) for keys in all_keys if keys not in kept)
    if left_out:
        read = f"the tensors under {'.'.join(map(str, place))!r} are read, those" if place else "the tensors"
        note(f"{path}: {read} under {', '.join(left_out)} are left out")


def _parting(keys: Keys, place: Keys) -> Any:
    """Return the keys of a tensor up to where they leave a place, as one text; a key alone as it is."""
    count = next((count for count, pair in enumerate(zip(keys, place, strict=False)) if pair[0] != pair[1]), len(place))
    return ".".join(map(str, keys[: count + 1])) if count else keys[0]


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
        if any(isinstance(key, torch.Tensor) for key in value):
            raise CheckpointError("the file holds a dictionary with tensors as keys; save names as keys")
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
