"""The Python interface for torch tensors, named as in safetensors.torch.

It stands outside `learning` because its name is what users import; nothing of dcomp imports it.
"""

import os
from collections.abc import Mapping

import numpy as np
import torch

from dcomp import api
from dcomp.container.reader import DEFAULT_MAX_MEMORY
from dcomp.errors import ArchitectureError, CheckpointError, first_line
from dcomp.learning import masked
from dcomp.learning.aliases import missing_names
from dcomp.learning.conversion import numpy_dtype, to_numpy, to_torch


def save(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Encode tensors, on any device, as the bytes of a .dcz file; tensors of the same bytes are stored once.

    Raises:
        CheckpointError: a value that is no dense tensor, or of a dtype that safetensors does not know.
    """
    return api.save(_to_arrays(tensors), metadata)


def save_file(
    tensors: Mapping[str, torch.Tensor],
    filename: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Encode tensors into a .dcz file; one that exists is replaced with `overwrite` only.

    Raises:
        CheckpointError: as `save`.
        OutputError: the file exists, or cannot be written.
    """
    api.check_new(filename, overwrite=overwrite)
    api.save_file(_to_arrays(tensors), filename, metadata, overwrite=overwrite)


def load(
    data: bytes, device: str | int | torch.device = "cpu", *, max_memory: int = DEFAULT_MAX_MEMORY
) -> dict[str, torch.Tensor]:
    """Decode the bytes of a .dcz file; the tensors equal, bit for bit, those saved.

    Raises:
        LimitError: decoding would take more than `max_memory` bytes.
        ContainerError: not a .dcz file, or a damaged one.
        CheckpointError: a dtype that this torch does not have.
    """
    arrays = api.load(data, max_memory=max_memory)
    return {name: to_torch(arrays.pop(name)).to(device) for name in list(arrays)}  # not all are in memory twice


def load_file(
    filename: str | os.PathLike[str], device: str | int | torch.device = "cpu", *, max_memory: int = DEFAULT_MAX_MEMORY
) -> dict[str, torch.Tensor]:
    """Decode a .dcz file; raises as `load`."""
    with api.open(filename, max_memory=max_memory) as opened:
        return {name: to_torch(opened.get_tensor(name)).to(device) for name in opened.keys()}  # noqa: SIM118  # no dict


def save_model(
    model: torch.nn.Module,
    filename: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Encode a model's parameters and buffers; those that share memory are stored once.

    Weights that `torch.nn.utils.prune` holds as original and mask are stored as one pruned weight, as `dcomp encode`
    stores them. Parametrizations stay as they are: what they compute could not be loaded into them again.
    Raises as `save_file`.
    """
    save_file(masked.merged(model.state_dict()), filename, metadata, overwrite=overwrite)


def load_model(
    model: torch.nn.Module,
    filename: str | os.PathLike[str],
    strict: bool = True,
    device: str | int | torch.device = "cpu",
    *,
    max_memory: int = DEFAULT_MAX_MEMORY,
) -> tuple[list[str], list[str]]:
    """Load a .dcz file into a model. A shared parameter is loaded if the file has it under one of its names.

    Where `torch.nn.utils.prune` has pruned the model, a weight becomes the original, and its zeros the mask.

    Returns:
        names that the model has and the file has not, and the other way round; both are empty if `strict`.

    Raises:
        ArchitectureError: the tensors do not fit the model, which is left as it was.
        LimitError, ContainerError, CheckpointError: as `load`.
    """
    state = model.state_dict(keep_vars=True)
    loaded = masked.split(load_file(filename, device, max_memory=max_memory), state)
    missing = missing_names(state, loaded)
    unexpected = [name for name in loaded if name not in state]
    misfits = [
        f"{name} is {tuple(tensor.shape)} in the file and {tuple(state[name].shape)} in the model"
        for name, tensor in loaded.items()
        if name in state and tensor.shape != state[name].shape
    ]
    if strict:
        misfits += [f"it lacks {name}" for name in missing] + [f"it has {name} besides" for name in unexpected]
    if misfits:
        raise ArchitectureError(f"{os.fspath(filename)} does not fit the model: {'; '.join(misfits)}")
    try:
        model.load_state_dict(loaded, strict=False)
    except RuntimeError as error:  # what a module of the user's own objects to
        raise ArchitectureError(f"{os.fspath(filename)} does not fit the model: {first_line(error)}") from error
    return missing, unexpected


def _to_arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise CheckpointError(f"{name!r} is a {type(tensor).__name__}, not a tensor; save tensors only")
        numpy_dtype(tensor, name)  # before any is copied
    return {name: to_numpy(tensor) for name, tensor in tensors.items()}
