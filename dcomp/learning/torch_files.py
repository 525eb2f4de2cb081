"""Checkpoints that torch saved (.pt, .pth, .bin, Lightning's .ckpt), without running what is in them."""

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from dcomp.checkpoint import Checkpoint
from dcomp.errors import CheckpointError, first_line
from dcomp.learning.tensors import numpy_dtype, to_numpy
from dcomp.tensors import Spec, Tensors

NESTS = ("state_dict", "model", "model_state")
ORIGINAL, MASK = "_orig", "_mask"


def load_file(path: Path) -> Checkpoint:
    """Open a file that `torch.save` wrote, whose tensors may be under one of `NESTS`; each is read when asked for.

    Raises:
        CheckpointError: it holds no tensors, or more than tensors and plain values: such a file would have to
            run code to be read, and is refused.
    """
    try:
        with warnings.catch_warnings():  # torch tells the authors of files what they should have done
            warnings.simplefilter("ignore")
            mapped = zipfile.is_zipfile(path)  # the older format cannot be mapped into memory
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
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
    found = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if not found:
        raise CheckpointError(f"{path} holds no tensors")
    masks = _masks(found)
    plain = {
        name.removesuffix(ORIGINAL) if name in masks else name: name for name in found if name not in masks.values()
    }
    specs = {name: Spec(numpy_dtype(found[key], name), tuple(found[key].shape)) for name, key in plain.items()}

    def read(name: str) -> np.ndarray:
        tensor, mask = found[plain[name]], masks.get(plain[name])
        return to_numpy(tensor if mask is None else torch.where(found[mask] != 0, tensor, 0))

    return Checkpoint(Tensors(specs, lambda names: [read(name) for name in names]))


def _masks(found: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """The name of the mask of each original: `torch.nn.utils.prune` keeps a weight as those two while it is pruned."""
    masks = {}
    for name, tensor in found.items():
        mask, plain = name.removesuffix(ORIGINAL) + MASK, name.removesuffix(ORIGINAL)
        if name.endswith(ORIGINAL) and mask in found and found[mask].shape == tensor.shape and plain not in found:
            masks[name] = mask
    return masks
