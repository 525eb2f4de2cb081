"""Sharded checkpoints, as Hugging Face's libraries write them: an index that maps tensors to safetensors files.

The index is JSON: `{"metadata": {...}, "weight_map": {tensor: file}}`. Read, the shards are one checkpoint, with
what is needed to write them again under one metadata key.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dcomp.checkpoints import safetensors_file, tensors
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.checkpoints.tensors import Spec, Tensors
from dcomp.errors import CheckpointError, first_line
from dcomp.system.files import INDEX_SUFFIX

SHARD_SUFFIX = ".safetensors"

METADATA_KEY = "dcomp.shards"


def load_index(path: Path) -> Checkpoint:
    """Open all shards of an index as one checkpoint, its tensors in the order of the shards.

    Raises:
        CheckpointError: no index, a shard that is missing or is none, or tensors that index and shards do not agree on.
    """
    text, weight_map = _read_index(path)
    shards: dict[str, Checkpoint] = {}
    for file in dict.fromkeys(weight_map.values()):
        if not (path.parent / file).is_file():
            raise CheckpointError(f"{path} names the shard {file}, which is not beside it; put it there")
        shards[file] = safetensors_file.load_file(path.parent / file)
    specs: dict[str, Spec] = {}
    for file, shard in shards.items():
        for name, spec in tensors.specs_of(shard.tensors).items():
            if weight_map.get(name) != file:
                raise CheckpointError(f"{file} holds the tensor {name!r}, which {path.name} does not list there")
            specs[name] = spec
    for name, file in weight_map.items():
        if name not in specs:
            raise CheckpointError(f"{path.name} lists the tensor {name!r} in {file}, which does not hold it")

    def read(names: Sequence[str]) -> list[np.ndarray]:
        return [shards[weight_map[name]].tensors[name] for name in names]

    kept = {"index": path.name, "text": text, "files": {file: shard.metadata for file, shard in shards.items()}}
    return Checkpoint(Tensors(specs, read), {METADATA_KEY: _dumped(kept)})


def files_of(path: Path) -> list[Path]:
    """The files of a sharded checkpoint: its index, and the shards that it names.

    Raises:
        CheckpointError: as `load_index`, for the index alone.
    """
    return [path, *(path.parent / file for file in dict.fromkeys(_read_index(path)[1].values()))]


def _read_index(path: Path) -> tuple[str, dict[str, str]]:
    try:
        text = path.read_bytes().decode()  # its line ends are kept
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot read {path}: {first_line(error)}") from error
    return text, _weight_map(text, str(path))


def is_sharded(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint was read from shards."""
    return METADATA_KEY in checkpoint.metadata


@dataclass(frozen=True)
class _Layout:
    """How a checkpoint lies in shards: the name and text of the index, the metadata of each file, and its tensors."""

    index: str
    text: str
    files: dict[str, dict[str, Any]]
    weight_map: dict[str, str]


def file_names(checkpoint: Checkpoint) -> list[str]:
    """The names of the index and shards that a checkpoint was read from.

    Raises:
        CheckpointError: the metadata are none that `load_index` made.
    """
    layout = _layout(checkpoint)
    return [layout.index, *layout.files]


def fitted(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with an index of its tensors' names, which a stage may have shortened by a prefix."""
    layout = _layout(checkpoint)
    if all(name in layout.weight_map for name in checkpoint.tensors):
        return checkpoint
    places = {name: _file_with(name, layout) for name in checkpoint.tensors}
    content = {**json.loads(layout.text), "weight_map": places}
    kept = {"index": layout.index, "text": json.dumps(content, indent=2) + "\n", "files": layout.files}
    return Checkpoint(checkpoint.tensors, {**checkpoint.metadata, METADATA_KEY: _dumped(kept)})


def _file_with(name: str, layout: _Layout) -> str:
    """The shard that holds a tensor, maybe under a longer name; else the first."""
    longer = (file for other, file in layout.weight_map.items() if other.endswith(f".{name}"))
    return layout.weight_map.get(name) or next(longer, next(iter(layout.files), ""))


def save_folder(checkpoint: Checkpoint, folder: Path, on_tensor: Callable[[int], object] = lambda nbytes: None) -> None:
    """Write the shards that a checkpoint was read from, and their index; metadata added since goes to every shard.

    Raises:
        CheckpointError: the metadata are none that `load_index` made, or do not fit the tensors.
    """
    layout = _layout(checkpoint)
    names = {
        file: [name for name in checkpoint.tensors if layout.weight_map.get(name) == file] for file in layout.files
    }
    if sum(map(len, names.values())) != len(checkpoint.tensors):
        raise CheckpointError(f"the metadata under {METADATA_KEY!r} do not place every tensor in a shard")
    added = {key: value for key, value in checkpoint.metadata.items() if key != METADATA_KEY}
    for file, own in names.items():
        metadata = {str(key): str(value) for key, value in layout.files[file].items()} | added
        with (folder / file).open("xb") as stream:
            safetensors_file.save(Checkpoint(tensors.subset(checkpoint.tensors, own), metadata), stream, on_tensor)
    (folder / layout.index).write_bytes(layout.text.encode())


def _layout(checkpoint: Checkpoint) -> _Layout:
    """What the metadata say of the shards; they are hostile until checked.

    Raises:
        CheckpointError: they are none that `load_index` made.
    """
    try:
        kept = json.loads(checkpoint.metadata[METADATA_KEY])
        index, text, files = kept["index"], kept["text"], kept["files"]
        plain = isinstance(index, str) and isinstance(text, str) and isinstance(files, dict)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"the metadata under {METADATA_KEY!r} do not describe shards") from error
    if not plain or not all(isinstance(own, dict) for own in files.values()):
        raise CheckpointError(f"the metadata under {METADATA_KEY!r} do not describe shards")
    weight_map = _weight_map(text, METADATA_KEY)
    for file in (index, *files):
        _check_file_name(file)
    if not index.endswith(INDEX_SUFFIX) or not all(file.endswith(SHARD_SUFFIX) for file in files):
        raise CheckpointError(
            f"the metadata under {METADATA_KEY!r} name files that are no shards: the index ends in {INDEX_SUFFIX}, "
            f"shards in {SHARD_SUFFIX}; decode to one file with -o NAME.safetensors"
        )
    return _Layout(index, text, files, weight_map)


def _dumped(kept: object) -> str:
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))


def _weight_map(text: str, what: str) -> dict[str, str]:
    """The file of each tensor.

    Raises:
        CheckpointError: the text is no index, or names files that are not beside it.
    """
    try:
        found = json.loads(text)["weight_map"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{what} is no index of shards: it has no weight_map") from error
    if not isinstance(found, dict) or not found or not all(isinstance(file, str) for file in found.values()):
        raise CheckpointError(f"{what} is no index of shards: its weight_map does not map tensors to files")
    for file in set(found.values()):
        _check_file_name(file)
    return found


def _check_file_name(name: str) -> None:
    """Refuse names that lead out of their folder: both indices and containers are hostile until checked."""
    if name in ("", ".", "..") or any(mark in name for mark in "/\\\0:") or not tensors.is_text(name):
        raise CheckpointError(f"{name!r} is not the plain name of a file, as shards must have")
