"""Names of outputs: the default names, and names that are refused."""

from pathlib import Path

from dcomp.errors import UsageError
from dcomp.system.files import INDEX_SUFFIX

CHECKPOINT_SUFFIX, CONTAINER_SUFFIX = ".safetensors", ".dcz"

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
"""Names of torch's files, which no command writes."""

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
    written, other = CHECKPOINT_SUFFIX, CONTAINER_SUFFIX
    hint = "dcomp encode writes .dcz files"
    if command == "encode":
        written, other, hint = other, written, "dcomp decode writes .safetensors files"
    suffix = output.suffix.lower()
    if suffix in (other, *TORCH_SUFFIXES):
        more = f"; {hint}" if suffix == other else ""
        raise UsageError(f"{command} writes {written} files: name it {output.with_suffix(written)} (-o){more}")


def sibling(source: Path, suffix: str) -> Path:
    """Return a path beside the file or folder of an input, with the suffix of a stage in place of the last stage's.

    Raises:
        UsageError: the folder has no index of shards, or no name.
    """
    if source.is_dir():
        from dcomp.sources import index_or_file

        index_or_file(source)  # raises UsageError where the folder has no index
        folder = source if source.name not in ("", "..") else source.resolve()
        if not folder.name:
            raise UsageError(f"{source} has no name that an output could have; name one with -o")
        return folder.with_name(_without_stage(folder.name) + suffix)
    if source.name.endswith(INDEX_SUFFIX):
        return source.with_name(source.name.removesuffix(INDEX_SUFFIX) + suffix)
    stem = source.with_suffix("")
    return stem.with_name(_without_stage(stem.name) + suffix)


def _without_stage(name: str) -> str:
    return next((name.removesuffix(stage) for stage in STAGE_SUFFIXES if name.endswith(stage)), name)
