"""Names of outputs: the default names, and names that are refused."""

from pathlib import Path

from dcomp.checkpoints.foreign import format_of
from dcomp.errors import UsageError
from dcomp.system.files import INDEX_SUFFIXES

CHECKPOINT_SUFFIX, CONTAINER_SUFFIX = ".safetensors", ".dcz"

TENSORS_SUFFIXES = (".pth", ".pt", ".bin", ".npz")
"""Ends of the names of files that hold tensors alone: torch's, and numpy's."""

CHECKPOINT_SUFFIXES = (CHECKPOINT_SUFFIX, *TENSORS_SUFFIXES)
"""Ends of the names of files to which a checkpoint is written; all other names give safetensors files, or folders."""

STAGE_SUFFIXES = (".pruned", ".finetuned", ".quantized", ".decoded")

COMMANDS = {
    "": "train",
    ".pruned": "prune",
    ".finetuned": "finetune",
    ".quantized": "quantize",
    ".decoded": "decode",
    CONTAINER_SUFFIX: "encode",
}
"""The command whose outputs have a suffix."""


def command_of(suffix: str) -> str:
    """Return the command whose outputs have a suffix, like `.pruned.safetensors`."""
    return COMMANDS[suffix.removesuffix(CHECKPOINT_SUFFIX)]


def check_name(output: Path, command: str) -> None:
    """Raise UsageError for a name that promises another format than the command writes."""
    suffix = output.suffix.lower()
    written = CONTAINER_SUFFIX if command == "encode" else CHECKPOINT_SUFFIX
    if command == "encode" and suffix in CHECKPOINT_SUFFIXES:
        hint = f"; dcomp decode writes {suffix} files"
    elif command != "encode" and suffix == CONTAINER_SUFFIX:
        hint = "; dcomp encode writes .dcz files"
    elif suffix == ".ckpt":
        hint = "" if command == "encode" else ", or .pth for torch.load"
    elif (foreign := format_of(output, b"")) is not None:
        hint = f"; {output.name} would be the name of {foreign.name}"
    else:
        return
    raise UsageError(f"{command} writes {written} files: name it {output.with_suffix(written)} (-o){hint}")


def sibling(source: Path, suffix: str) -> Path:
    """Return a path beside the file or folder of an input, with the suffix of a stage in place of the last stage's.

    Raises:
        UsageError: the folder has no checkpoint, or no name.
    """
    if source.is_dir():
        from dcomp.sources import weights_or_file

        weights_or_file(source)  # raises UsageError where the folder has no checkpoint
        folder = source if source.name not in ("", "..") else source.resolve()
        if not folder.name:
            raise UsageError(f"{source} has no name that an output could have; name one with -o")
        return folder.with_name(_without_stage(folder.name) + suffix)
    for index_suffix in INDEX_SUFFIXES:
        if source.name.endswith(index_suffix):
            return source.with_name(source.name.removesuffix(index_suffix) + suffix)
    stem = source.with_suffix("")
    return stem.with_name(_without_stage(stem.name) + suffix)


def _without_stage(name: str) -> str:
    return next((name.removesuffix(stage) for stage in STAGE_SUFFIXES if name.endswith(stage)), name)
