"""Folders as Hugging Face's libraries write them: a checkpoint, and files about it, like config.json.

What a folder holds beside its weights goes with the checkpoint in two ways: small texts as an entry of its metadata,
so that a container gives a folder again; all of them by copies, where the folder is at hand.
"""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from dcomp.checkpoints import foreign, safetensors_file, shards
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.errors import CheckpointError, UsageError
from dcomp.system.files import INDEX_SUFFIX, TORCH_INDEX_SUFFIX

WEIGHTS = (
    f"*{INDEX_SUFFIX}",
    "model.safetensors",
    "*_model.safetensors",
    f"*{TORCH_INDEX_SUFFIX}",
    "pytorch_model.bin",
    "*_model.bin",
)
"""Names of the file that is the checkpoint of a folder; the first that is there counts."""

WEIGHT_SUFFIXES = {
    *(".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".npz", ".dcz"),
    *(".h5", ".keras", ".msgpack", ".onnx", ".gguf", ".tflite", ".pb", ".ot"),
}
"""Ends of the names of files with weights or states of a training, which are not copied."""

FOLDER_KEY = "dcomp.folder"
"""Key of the metadata entry that keeps the name of a folder's checkpoint and small texts beside it."""

TEXT_SUFFIXES = (".json", ".jinja")

MAX_TEXT_BYTES = 1 << 16
"""Bytes of the largest text that the metadata keep."""

DEFAULT_NAME = "model.safetensors"
"""Name of the checkpoint in a folder, if it does not come from one."""


def weights_in(folder: Path) -> Path:
    """Return the checkpoint in a folder: an index of shards, or a file.

    Raises:
        UsageError: there is none, or more than one.
        CheckpointError: the folder is a model of another kind.
    """
    form = foreign.format_of(folder, b"")
    if form is not None:
        raise CheckpointError(form.refusal(folder))
    for pattern in WEIGHTS:
        paths = sorted(folder.glob(pattern))
        if len(paths) > 1:
            raise UsageError(f"{folder} is a folder with {len(paths)} {pattern} in it; name a file")
        if paths:
            return paths[0]
    raise UsageError(f"{folder} is a folder without model.safetensors, pytorch_model.bin or an index; name a file")


def files_beside(folder: Path) -> list[Path]:
    """Return the files in a folder that are no weights, no indices of them, and not hidden; see `links_out`."""
    return [path for path in _files_in(folder) if not _leads_out(path, folder)]


def links_out(folder: Path) -> str:
    """Return a line about links to files elsewhere, which are not taken, as a folder may come from anyone; else ""."""
    names = ", ".join(path.name for path in _files_in(folder) if _leads_out(path, folder))
    return f"{folder}: {names}: links to files outside of the folder, which are left out" if names else ""


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not _is_of_weights(path))


def _leads_out(path: Path, folder: Path) -> bool:
    """Return whether a file in a folder is a link to one that is neither in it nor in the cache that it is part of."""
    target, parents = path.resolve(), [folder.resolve(), *folder.resolve().parents]
    is_in_cache = target.parent.name == "blobs" and target.parent.parent in parents  # as Hugging Face's caches are
    return parents[0] not in target.parents and not is_in_cache


def _is_of_weights(path: Path) -> bool:
    return path.suffix.lower() in WEIGHT_SUFFIXES or path.name.endswith(".index.json") or path.name.startswith(".")


def with_texts(checkpoint: Checkpoint, weights: Path) -> Checkpoint:
    """Return the checkpoint of a folder with the small texts in it as an entry of its metadata.

    Args:
        checkpoint: what the file holds.
        weights: that file, in the folder.
    """
    texts = {path.name: text for path in files_beside(weights.parent) if (text := _small_text(path)) is not None}
    metadata = {**checkpoint.metadata}
    if weights.name.endswith(shards.TORCH_SHARD_SUFFIX):
        metadata |= shards.FORMAT
    if texts or not shards.is_sharded(checkpoint):
        entry = {"weights": shards.written_name(weights.name), "texts": texts}
        metadata[FOLDER_KEY] = json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
    return Checkpoint(checkpoint.tensors, metadata)


def files_left_out(folder: Path) -> list[str]:
    """Return the names of the files beside the checkpoint of a folder that the metadata do not keep."""
    return [path.name for path in files_beside(folder) if _small_text(path) is None]


def _small_text(path: Path) -> str | None:
    """Return the content of a file that the metadata keep; None for any other file."""
    if path.suffix not in TEXT_SUFFIXES or path.stat().st_size > MAX_TEXT_BYTES:
        return None
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None


def is_of_folder(checkpoint: Checkpoint) -> bool:
    """Return whether a checkpoint was read from a folder, or from shards."""
    return FOLDER_KEY in checkpoint.metadata or shards.is_sharded(checkpoint)


def text_of(checkpoint: Checkpoint, name: str) -> str | None:
    """Return a text that stood beside a checkpoint in its folder; None if the metadata keep none of this name.

    Raises:
        CheckpointError: the metadata do not describe a folder.
    """
    return _read_entry(checkpoint)[1].get(name)


def weight_names(checkpoint: Checkpoint) -> list[str]:
    """Return the names of the files that hold a checkpoint in the folder that `save` writes.

    Raises:
        CheckpointError: the metadata do not describe a folder.
    """
    return shards.file_names(checkpoint) if shards.is_sharded(checkpoint) else [_read_entry(checkpoint)[0]]


def weight_names_of(path: Path) -> list[str]:
    """Return the names of the files that a stage writes for a checkpoint in a folder, or for an index of shards.

    Raises:
        CheckpointError, UsageError: as `weights_in` and `shards.files_of`.
    """
    weights = weights_in(path) if path.is_dir() else path
    files = shards.files_of(weights) if shards.is_index(weights) else [weights]
    return [shards.written_name(file.name) for file in files]


def save(
    checkpoint: Checkpoint,
    folder: Path,
    copied_files: Iterable[Path] = (),
    on_tensor: Callable[[int], object] = lambda nbytes: None,
) -> None:
    """Write a checkpoint to an empty folder, as the files that it was read from, and the texts beside it.

    Args:
        checkpoint: from a folder, from shards, or from one file, which becomes `model.safetensors`.
        folder: exists.
        copied_files: are copied, and replace texts of the metadata.
        on_tensor: called with the bytes of each tensor after it is written.

    Raises:
        CheckpointError: the metadata do not describe a folder.
    """
    weights, texts = _read_entry(checkpoint)
    metadata = {key: text for key, text in checkpoint.metadata.items() if key != FOLDER_KEY}
    if shards.is_sharded(checkpoint):
        shards.save_folder(shards.reindexed(Checkpoint(checkpoint.tensors, metadata)), folder, on_tensor)
    else:
        if FOLDER_KEY not in checkpoint.metadata:
            metadata = shards.FORMAT | metadata
        with (folder / weights).open("xb") as stream:
            safetensors_file.save(Checkpoint(checkpoint.tensors, metadata), stream, on_tensor)
    for name, text in texts.items():
        with (folder / name).open("xb") as stream:
            stream.write(text.encode())
    for path in copied_files:
        shutil.copyfile(path, folder / path.name)


def _read_entry(checkpoint: Checkpoint) -> tuple[str, dict[str, str]]:
    """Return the name of the checkpoint in a folder and the texts beside it, from metadata that may be hostile.

    Raises:
        CheckpointError: the entry is not from `with_texts`.
    """
    if FOLDER_KEY not in checkpoint.metadata:
        return DEFAULT_NAME, {}
    try:
        entry = json.loads(checkpoint.metadata[FOLDER_KEY])
        weights, texts = entry["weights"], entry["texts"]
        is_valid = isinstance(weights, str) and all(isinstance(text, str) for text in texts.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"the metadata under {FOLDER_KEY!r} do not describe a folder") from error
    if not is_valid:
        raise CheckpointError(f"the metadata under {FOLDER_KEY!r} do not describe a folder")
    for name in (weights, *texts):
        shards.check_file_name(name)
    is_checkpoint = weights.endswith(shards.SHARD_SUFFIX) or shards.is_sharded(checkpoint)
    if not is_checkpoint or not all(map(_is_text_name, texts)):
        raise CheckpointError(
            f"the metadata under {FOLDER_KEY!r} name files that are no checkpoint, or no texts beside one; decode to "
            "one file with -o NAME.safetensors"
        )
    return weights, texts


def _is_text_name(name: str) -> bool:
    return name.endswith(TEXT_SUFFIXES) and not _is_of_weights(Path(name))
