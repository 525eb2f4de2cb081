"""The Python interface for torch tensors, named as in safetensors.torch.

It stands outside `learning` because its name is what users import; nothing of dcomp imports it.
"""

import os
from collections.abc import Mapping

import numpy as np
import torch

from dcomp import api
from dcomp.errors import ArchitectureError
from dcomp.learning.tensors import to_numpy, to_torch


def save(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Encode tensors, on any device, as the bytes of a .dcz file; tensors of the same bytes are stored once.

    Raises:
        CheckpointError: a dtype that safetensors does not know.
    """
    return api.save(_to_arrays(tensors), metadata)


def save_file(
    tensors: Mapping[str, torch.Tensor], filename: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Encode tensors into a .dcz file; raises as `save`, and OutputError if it cannot be written."""
    api.save_file(_to_arrays(tensors), filename, metadata)


def load(data: bytes, device: str | torch.device = "cpu") -> dict[str, torch.Tensor]:
    """Decode the bytes of a .dcz file; the tensors equal, bit for bit, those saved.

    Raises:
        ContainerError: not a .dcz file, or a damaged one.
        CheckpointError: a dtype that this torch does not have.
    """
    return {name: to_torch(array).to(device) for name, array in api.load(data).items()}


def load_file(filename: str | os.PathLike[str], device: str | torch.device = "cpu") -> dict[str, torch.Tensor]:
    """Decode a .dcz file; raises as `load`."""
    with api.open(filename) as opened:
        return {name: to_torch(opened.get_tensor(name)).to(device) for name in opened.keys()}  # noqa: SIM118  # no dict


def save_model(
    model: torch.nn.Module, filename: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Encode a model's parameters and buffers; those that share memory are stored once. Raises as `save_file`."""
    save_file(model.state_dict(), filename, metadata)


def load_model(
    model: torch.nn.Module, filename: str | os.PathLike[str], strict: bool = True, device: str | torch.device = "cpu"
) -> tuple[list[str], list[str]]:
    """Load a .dcz file into a model. A shared parameter is loaded if the file has it under one of its names.

    Returns:
        names that the model has and the file has not, and the other way round; both are empty if `strict`.

    Raises:
        ArchitectureError: the tensors do not fit the model.
        ContainerError: not a .dcz file, or a damaged one.
    """
    try:
        absent, unexpected = model.load_state_dict(load_file(filename, device), strict=False)
    except RuntimeError as error:
        raise ArchitectureError(f"{filename} does not fit the model: {error}") from error
    own = model.state_dict(keep_vars=True)  # the parameters themselves, so that shared ones are the same object
    loaded = {id(value) for name, value in own.items() if name not in absent}
    missing = [name for name in absent if id(own.get(name)) not in loaded]
    if strict and (missing or unexpected):
        lists = (("lacks", missing), ("has besides", unexpected))
        words = "; ".join(f"it {verb} {', '.join(names)}" for verb, names in lists if names)
        raise ArchitectureError(f"{filename} does not fit the model: {words}")
    return missing, list(unexpected)


def _to_arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: to_numpy(tensor) for name, tensor in tensors.items()}
