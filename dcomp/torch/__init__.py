"""The Python interface for torch: `Compressor` for training loops, and functions named as in safetensors.torch.

>>> import torch, dcomp.torch
>>> data = dcomp.torch.save({"w": torch.eye(2)})
>>> dcomp.torch.load(data)["w"]
tensor([[1., 0.],
        [0., 1.]])
"""

import os
from collections.abc import Mapping

import torch

from dcomp import api
from dcomp.container.reader import DEFAULT_MAX_MEMORY
from dcomp.errors import ArchitectureError, first_line
from dcomp.learning import masked
from dcomp.learning.aliases import missing_names
from dcomp.learning.conversion import to_arrays, to_torch
from dcomp.torch.compressor import Compressor as Compressor


def save(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Encode tensors, on any device, as the bytes of a .dcz file; tensors of the same bytes are stored once.

    >>> import torch, dcomp.torch
    >>> len(dcomp.torch.save({"w": torch.zeros(100, 100)})) < 100
    True

    Raises:
        CheckpointError: a value that is no dense tensor, or of a dtype that safetensors does not know.
    """
    return api.save(to_arrays(tensors), metadata)


def save_file(
    tensors: Mapping[str, torch.Tensor],
    filename: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Encode tensors into a .dcz file; an existing one is replaced with `overwrite` only.

    >>> import torch, dcomp.torch
    >>> dcomp.torch.save_file({"w": torch.eye(2)}, "tensors.dcz", {"author": "me"})

    Raises:
        CheckpointError: as `save`.
        OutputError: the file exists, or cannot be written.
    """
    api.check_new(filename, overwrite=overwrite)
    api.save_file(to_arrays(tensors), filename, metadata, overwrite=overwrite)


def load(
    data: bytes, device: str | int | torch.device = "cpu", *, max_memory: int = DEFAULT_MAX_MEMORY
) -> dict[str, torch.Tensor]:
    """Decode the bytes of a .dcz file; every tensor equals the one that was saved, bit for bit.

    >>> import torch, dcomp.torch
    >>> dcomp.torch.load(dcomp.torch.save({"w": torch.tensor([0.0, 1.5])}), device="cpu")
    {'w': tensor([0.0000, 1.5000])}

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
    """Decode a .dcz file; raise as `load`.

    >>> import torch, dcomp.torch
    >>> dcomp.torch.save_file({"w": torch.arange(3)}, "loaded.dcz")
    >>> dcomp.torch.load_file("loaded.dcz")
    {'w': tensor([0, 1, 2])}
    """
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

    A weight that `torch.nn.utils.prune` keeps as original and mask is stored as one pruned weight, as `dcomp encode`
    stores it. Parametrizations are stored as they are: the weights that they compute could not be loaded again.

    >>> import torch, dcomp.torch
    >>> dcomp.torch.save_model(torch.nn.Linear(3, 2), "linear.dcz")

    Raises:
        CheckpointError, OutputError: as `save_file`.
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

    >>> import torch, dcomp.torch
    >>> model = torch.nn.Linear(3, 2)
    >>> dcomp.torch.save_model(model, "model.dcz")
    >>> dcomp.torch.load_model(model, "model.dcz")
    ([], [])

    Returns:
        the names that only the model has, and those that only the file has; both are empty if `strict`.

    Raises:
        ArchitectureError: the tensors do not fit the model, which is left as it was.
        LimitError, ContainerError, CheckpointError: as `load`.
    """
    state = model.state_dict(keep_vars=True)  # the parameters themselves, so that shared ones are the same object
    loaded = masked.split(load_file(filename, device, max_memory=max_memory), state)
    missing = missing_names(state, loaded)
    unexpected = [name for name in loaded if name not in state]
    misfits = _wrong_shapes(loaded, state)
    if strict:
        misfits += [f"it lacks {name}" for name in missing] + [f"it also has {name}" for name in unexpected]
    if misfits:
        more = f"; and {len(misfits) - 3} more" if len(misfits) > 3 else ""
        raise ArchitectureError(f"{os.fspath(filename)} does not fit the model: {'; '.join(misfits[:3])}{more}")
    try:
        model.load_state_dict(loaded, strict=False)
    except RuntimeError as error:  # of a module that the user wrote
        raise ArchitectureError(f"{os.fspath(filename)} does not fit the model: {first_line(error)}") from error
    return missing, unexpected


def _wrong_shapes(loaded: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> list[str]:
    """Say which tensors have other shapes in the file than in the model."""
    return [
        f"{name} is {tuple(tensor.shape)} in the file and {tuple(state[name].shape)} in the model"
        for name, tensor in loaded.items()
        if name in state and tensor.shape != state[name].shape
    ]
