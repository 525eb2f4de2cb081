"""The registry of networks, and checkpoints put into them."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import nn

from dcomp.checkpoint import Checkpoint
from dcomp.errors import ArchitectureError
from dcomp.learning.architectures.lenet import LeNet5, LeNet300
from dcomp.learning.tensors import to_numpy, to_torch

REGISTRY: dict[str, Callable[[], nn.Module]] = {"lenet300": LeNet300, "lenet5": LeNet5}

ARCHITECTURE_KEY = "dcomp.architecture"
"""Metadata entry that names the network a checkpoint belongs to."""


def build(architecture: str) -> nn.Module:
    """Make the network that `architecture` names, with fresh weights.

    Args:
        architecture: a name of the registry, or `package.module:factory`, where calling the factory
            makes the module; it is looked for in the current folder as well.

    Raises:
        ArchitectureError: no such name, module or factory, or the factory fails.
    """
    if architecture in REGISTRY:
        return REGISTRY[architecture]()
    module_name, separator, factory_name = architecture.partition(":")
    if not separator:
        known = ", ".join(REGISTRY)
        raise ArchitectureError(f"no architecture {architecture!r}; there are {known}, or package.module:factory")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        model = getattr(importlib.import_module(module_name), factory_name)()
    except Exception as error:  # the user's code may raise anything
        raise ArchitectureError(f"cannot make {architecture}: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise ArchitectureError(f"{architecture} made a {type(model).__name__}, not a torch.nn.Module")
    return model


def architecture_of(checkpoint: Checkpoint, override: str | None = None) -> str:
    """The architecture to build for a checkpoint: the override, else what its metadata names.

    A checkpoint may come from anyone, so one that names code to import is not followed.

    Raises:
        ArchitectureError: none is named, or one outside the registry.
    """
    if override:
        return override
    named = checkpoint.metadata.get(ARCHITECTURE_KEY)
    if named is None:
        raise ArchitectureError("the checkpoint does not say which architecture it belongs to; add --arch NAME")
    if named not in REGISTRY:
        raise ArchitectureError(f"the checkpoint asks for {named!r}; if you trust that code, add --arch {named}")
    return named


def load_into(model: nn.Module, checkpoint: Checkpoint, architecture: str) -> None:
    """Copy a checkpoint's tensors into a model, name by name.

    Raises:
        ArchitectureError: names or shapes differ; the first few are listed.
    """
    theirs = {name: array.shape for name, array in checkpoint.tensors.items()}
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    wrong = [
        f"{name} is {theirs.get(name, 'absent')} where the network has {ours.get(name, 'none')}"
        for name in dict.fromkeys([*theirs, *ours])
        if theirs.get(name) != ours.get(name)
    ]
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ArchitectureError(f"the checkpoint does not fit {architecture}: {'; '.join(wrong[:3])}{more}")
    model.load_state_dict({name: to_torch(array) for name, array in checkpoint.tensors.items()})


def tensors_of(model: nn.Module) -> dict[str, np.ndarray]:
    """A model's state as the tensors of a checkpoint, in the model's order."""
    return {name: to_numpy(tensor) for name, tensor in model.state_dict().items()}
