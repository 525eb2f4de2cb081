"""A checkpoint -> any file or folder. The name of a file says its format."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from dcomp.checkpoints import folders, npz_file, safetensors_file
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.progress.observer import SILENT, Observer


def save(checkpoint: Checkpoint, stream: BinaryIO, observer: Observer = SILENT, *, suffix: str = "") -> None:
    """Write a checkpoint as a file, one tensor after the other.

    Args:
        checkpoint: the checkpoint.
        stream: the file.
        observer: follows the bytes.
        suffix: end of the name of the file, which says the format: one of `WRITERS`, else it is a safetensors file.

    Raises:
        CheckpointError: names or dtypes that the format cannot hold.
        ContainerError: the checkpoint comes from a container that is damaged.
    """
    observer.activity("writing")
    observer.started_bytes(checkpoint.nbytes)
    try:
        WRITERS.get(suffix.lower(), safetensors_file.save)(checkpoint, stream, observer.finished_bytes)
    finally:
        observer.finished()


def _save_torch(checkpoint: Checkpoint, stream: BinaryIO, on_tensor: Callable[[int], object]) -> None:
    from dcomp.learning import torch_files

    torch_files.save(checkpoint, stream, on_tensor)


WRITERS: dict[str, Callable[[Checkpoint, BinaryIO, Callable[[int], object]], None]] = {
    ".npz": npz_file.save,
    **dict.fromkeys((".pth", ".pt", ".bin"), _save_torch),
}
"""What writes a checkpoint, by the end of the name of a file that is no safetensors file."""


def save_folder(
    checkpoint: Checkpoint, folder: Path, copied_files: Sequence[Path] = (), observer: Observer = SILENT
) -> None:
    """Write a checkpoint to a folder, as the file or the shards that it was read from, and the files beside it.

    Args:
        checkpoint: the checkpoint.
        folder: is empty.
        copied_files: are copied to it.
        observer: follows the bytes.

    Raises:
        CheckpointError: the metadata do not describe a folder, or shards of these tensors.
        ContainerError: the checkpoint comes from a container that is damaged.
    """
    observer.activity("writing a folder")
    observer.started_bytes(checkpoint.nbytes)
    try:
        folders.save(checkpoint, folder, copied_files, observer.finished_bytes)
    finally:
        observer.finished()
