"""Sharded checkpoints, as Hugging Face's libraries write them: an index that maps tensors to files.

The index is JSON: `{"metadata": {...}, "weight_map": {tensor: file}}`. The shards are read as one checkpoint. An entry
of its metadata describes the shards, so that they can be written again, those of torch as safetensors files.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dcomp.checkpoints import safetensors_file, tensors
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.checkpoints.tensors import Spec, Tensors
from dcomp.errors import CheckpointError, reading
from dcomp.system.files import INDEX_SUFFIX, INDEX_SUFFIXES, TORCH_INDEX_SUFFIX

SHARD_SUFFIX = ".safetensors"

TORCH_SHARD_SUFFIX = ".bin"

FORMAT = {"format": "pt"}
"""Metadata by which Transformers knows a safetensors file that a PyTorch model loads."""

SHARDS_KEY = "dcomp.shards"
"""Key of the metadata entry that describes the shards."""


def is_index(path: Path) -> bool:
    """Return whether a path has the name of an index of shards."""
    return path.name.endswith(INDEX_SUFFIXES)


def load_index(path: Path, load_file: Callable[[Path], Checkpoint] = safetensors_file.load_file) -> Checkpoint:
    """Open all shards of an index as one checkpoint, its tensors in the order of the shards.

    Args:
        path: of the index.
        load_file: opens a shard.

    Raises:
        CheckpointError: no index, a shard that is missing or damaged, or tensors on which index and shards disagree.
    """
    text, weight_map = _read_index(path)
    shards: dict[str, Checkpoint] = {}
    for file in dict.fromkeys(weight_map.values()):
        if not (path.parent / file).is_file():
            raise CheckpointError(f"{path} names the shard {file}, which is not in its folder; put it there")
        shards[file] = load_file(path.parent / file)
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

    if path.name.endswith(TORCH_INDEX_SUFFIX):
        places = {name: written_name(file) for name, file in weight_map.items()}
        text = _index_text(text, places)
        metadata = dict.fromkeys(map(written_name, shards), FORMAT)
    else:
        metadata = {file: shard.metadata for file, shard in shards.items()}
    shard_entry = {"index": written_name(path.name), "text": text, "files": metadata}
    return Checkpoint(Tensors(specs, read), {SHARDS_KEY: _dumped(shard_entry)})


def written_name(file: str) -> str:
    """Return the name under which an index or a checkpoint in a folder is written: torch's become safetensors files.

    `pytorch_model.bin` becomes `model.safetensors`, as Transformers names it.
    """
    for torch_suffix, suffix in ((TORCH_INDEX_SUFFIX, INDEX_SUFFIX), (TORCH_SHARD_SUFFIX, SHARD_SUFFIX)):
        if file.endswith(torch_suffix):
            stem = file.removesuffix(torch_suffix)
            return (stem.removeprefix("pytorch_") if stem.startswith("pytorch_model") else stem) + suffix
    return file


def files_of(path: Path) -> list[Path]:
    """Return the files of a sharded checkpoint: its index, and the shards that it names.

    Raises:
        CheckpointError: as `load_index`, for the index alone.
    """
    return [path, *(path.parent / file for file in dict.fromkeys(_read_index(path)[1].values()))]


def _read_index(path: Path) -> tuple[str, dict[str, str]]:
    """Return the text of an index, and its weight map."""
    with reading(path, CheckpointError):
        text = path.read_bytes().decode()  # keeps line ends
    return text, _weight_map(text, str(path))


def is_sharded(checkpoint: Checkpoint) -> bool:
    """Return whether a checkpoint was read from shards."""
    return SHARDS_KEY in checkpoint.metadata


@dataclass(frozen=True)
class _Layout:
    """The shards of a checkpoint: name and text of the index, metadata of each file, and the file of each tensor."""

    index: str
    text: str
    files: dict[str, dict[str, Any]]
    weight_map: dict[str, str]


def file_names(checkpoint: Checkpoint) -> list[str]:
    """Return the names of the index and the shards that a checkpoint was read from.

    Raises:
        CheckpointError: the metadata are not from `load_index`.
    """
    layout = _layout(checkpoint)
    return [layout.index, *layout.files]


def reindexed(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with an index of its present names, as a stage may have removed a prefix."""
    layout = _layout(checkpoint)
    if all(name in layout.weight_map for name in checkpoint.tensors):
        return checkpoint
    places = {name: _file_with(name, layout) for name in checkpoint.tensors}
    shard_entry = {"index": layout.index, "text": _index_text(layout.text, places), "files": layout.files}
    return Checkpoint(checkpoint.tensors, {**checkpoint.metadata, SHARDS_KEY: _dumped(shard_entry)})


def _file_with(name: str, layout: _Layout) -> str:
    """Return the shard that lists a tensor, maybe under a longer name; else the first shard."""
    longer = (file for long_name, file in layout.weight_map.items() if long_name.endswith(f".{name}"))
    return layout.weight_map.get(name) or next(longer, next(iter(layout.files), ""))


def save_folder(checkpoint: Checkpoint, folder: Path, on_tensor: Callable[[int], object] = lambda nbytes: None) -> None:
    """Write the shards that a checkpoint was read from, and their index; new metadata entries go to every shard.

    Raises:
        CheckpointError: the metadata are not from `load_index`, or do not fit the tensors.
    """
    layout = _layout(checkpoint)
    names = {
        file: [name for name in checkpoint.tensors if layout.weight_map.get(name) == file] for file in layout.files
    }
    if sum(map(len, names.values())) != len(checkpoint.tensors):
        raise CheckpointError(f"the metadata under {SHARDS_KEY!r} do not place every tensor in a shard")
    added = {key: value for key, value in checkpoint.metadata.items() if key != SHARDS_KEY}
    for file, shard_names in names.items():
        metadata = {str(key): str(value) for key, value in layout.files[file].items()} | added
        with (folder / file).open("xb") as stream:
            safetensors_file.save(
                Checkpoint(tensors.subset(checkpoint.tensors, shard_names), metadata), stream, on_tensor
            )
    (folder / layout.index).write_bytes(layout.text.encode())


def _layout(checkpoint: Checkpoint) -> _Layout:
    """Read the metadata entry of the shards, which is hostile until it is checked.

    Raises:
        CheckpointError: the entry is not from `load_index`.
    """
    try:
        shard_entry = json.loads(checkpoint.metadata[SHARDS_KEY])
        index, text, files = shard_entry["index"], shard_entry["text"], shard_entry["files"]
        has_types = isinstance(index, str) and isinstance(text, str) and isinstance(files, dict)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"the metadata under {SHARDS_KEY!r} do not describe shards") from error
    if not has_types or not all(isinstance(metadata, dict) for metadata in files.values()):
        raise CheckpointError(f"the metadata under {SHARDS_KEY!r} do not describe shards")
    weight_map = _weight_map(text, SHARDS_KEY)
    for file in (index, *files):
        check_file_name(file)
    if not index.endswith(INDEX_SUFFIX) or not all(file.endswith(SHARD_SUFFIX) for file in files):
        raise CheckpointError(
            f"the metadata under {SHARDS_KEY!r} name files that are not shards: the index ends in {INDEX_SUFFIX}, "
            f"shards in {SHARD_SUFFIX}; decode to one file with -o NAME.safetensors"
        )
    return _Layout(index, text, files, weight_map)


def _index_text(text: str, places: Mapping[str, str]) -> str:
    """Return the text of an index with other places of the tensors."""
    return json.dumps({**json.loads(text), "weight_map": places}, indent=2) + "\n"


def _dumped(shard_entry: object) -> str:
    return json.dumps(shard_entry, ensure_ascii=False, separators=(",", ":"))


def _weight_map(text: str, place: str) -> dict[str, str]:
    """Return the file of each tensor.

    Raises:
        CheckpointError: the text is no index, or names files in other folders.
    """
    try:
        weight_map = json.loads(text)["weight_map"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{place} is no index of shards: it has no weight_map") from error
    if (
        not isinstance(weight_map, dict)
        or not weight_map
        or not all(isinstance(file, str) for file in weight_map.values())
    ):
        raise CheckpointError(f"{place} is no index of shards: its weight_map does not map tensors to files")
    for file in set(weight_map.values()):
        check_file_name(file)
    return weight_map


def check_file_name(name: str) -> None:
    """Raise CheckpointError for a name that leads out of its folder: indices and containers may be hostile."""
    if name in ("", ".", "..") or any(mark in name for mark in "/\\\0:") or not tensors.is_text(name):
        raise CheckpointError(f"{name!r} is not the plain name of a file, as shards must have")
