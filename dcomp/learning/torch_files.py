"""Checkpoints that torch saved (.pt, .pth, .bin, .ckpt), without running what is in them."""

import warnings
from pathlib import Path

import torch

from dcomp.checkpoint import Checkpoint
from dcomp.errors import CheckpointError, first_line
from dcomp.learning.tensors import to_numpy

NESTS = ("state_dict", "model", "model_state")


def load_file(path: Path) -> Checkpoint:
    """Read the tensors of a file that `torch.save` wrote; it may hold them under one of `NESTS`.

    Raises:
        CheckpointError: it holds no tensors, or more than tensors and plain values: such a file would have to
            run code to be read, and is refused.
    """
    try:
        with warnings.catch_warnings():  # torch tells the authors of files what they should have done
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler meets
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise CheckpointError(
                f"{path} holds pickled objects, which can run code when read, and is refused; "
                "save its state_dict() as safetensors where you trust it"
            ) from error
        raise CheckpointError(f"{path} is not a readable torch checkpoint: {first_line(error)}") from error
    for nest in NESTS:
        if isinstance(content, dict) and isinstance(content.get(nest), dict):
            content = content[nest]
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not named tensors")
    tensors = {str(name): to_numpy(value) for name, value in content.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors")
    return Checkpoint(tensors)
