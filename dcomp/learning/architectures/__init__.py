"""Networks by name, and checkpoints that are loaded into them."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import nn

from dcomp.checkpoints import folders
from dcomp.checkpoints.checkpoint import ARCHITECTURE_KEY, Checkpoint
from dcomp.errors import ArchitectureError, first_line
from dcomp.learning.aliases import missing_names
from dcomp.learning.architectures.network import PHOTO, Network
from dcomp.learning.conversion import to_numpy, to_torch
from dcomp.learning.factories import call_factory, check_trusted
from dcomp.settings.built_in_networks import BUILT_IN_NETWORKS, BuiltInNetwork
from dcomp.settings.fields import TORCHVISION, TRANSFORMERS, network_name


def canonical(architecture: str) -> str:
    """Return a network's name as metadata have it, from one in any case.

    Raises:
        ArchitectureError: no such name; the nearest one is suggested.
    """
    try:
        return network_name(architecture)
    except ValueError as error:
        raise ArchitectureError(str(error)) from error


def find(architecture: str) -> Network:
    """Return the network that `architecture` names.

    Args:
        architecture: a name of `BUILT_IN_NETWORKS`, `torchvision:NAME`, `transformers:FOLDER`, or
            `package.module:factory`. Calling that factory makes the module; it is looked for in the current folder as
            well. The argument `config` takes the place of the folder's.

    Raises:
        ArchitectureError: no such name.
    """
    name = canonical(architecture)
    if name in BUILT_IN_NETWORKS:
        return _built_in(BUILT_IN_NETWORKS[name])
    if name.startswith(TORCHVISION):
        from dcomp.learning.architectures import zoo

        return zoo.find(name.removeprefix(TORCHVISION))
    if name.startswith(TRANSFORMERS):
        from dcomp.learning.architectures import transformers_networks

        return Network(partial(transformers_networks.make, name.removeprefix(TRANSFORMERS)), {"size": PHOTO})
    return Network(partial(_by_factory, architecture), {"size": PHOTO})


def build(architecture: str, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """Make a network with fresh weights.

    Args:
        architecture: as in `find`.
        arguments: replace the network's defaults.

    Raises:
        ArchitectureError: no such name, or it cannot be made so.
    """
    network = find(architecture)
    try:
        model = network.make(**{**network.defaults, **(arguments or {})})
    except (RuntimeError, MemoryError) as error:  # a checkpoint may record sizes that no machine has
        raise ArchitectureError(
            f"cannot make {architecture} with {str(dict(arguments or {}))[:200]}: {first_line(error)}"
        ) from error
    if not isinstance(model, nn.Module):
        raise ArchitectureError(f"{architecture} made a {type(model).__name__}, not a torch.nn.Module")
    return model


def outline_of(architecture: str, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """Make a network for its names and shapes alone, on torch's meta device where its code allows that.

    Raises:
        ArchitectureError: as `build`.
    """
    if is_code(canonical(architecture)):
        return build(architecture, arguments)  # a person's code may not work without values
    try:
        with torch.device("meta"):
            return build(architecture, arguments)
    except ArchitectureError:
        if not architecture.startswith(TORCHVISION):
            raise
        return build(architecture, arguments)  # its RegNets read values while they are made; real errors come again


def _built_in(network: BuiltInNetwork) -> Network:
    """Return a network of dcomp; its class is imported."""
    module, _, name = network.place.partition(":")
    defaults = {key: value for key, value in asdict(network).items() if key != "place"}
    return Network(getattr(import_module(f"{__name__}.{module}"), name), defaults)


def _by_factory(architecture: str, size: int, **arguments: object) -> Any:
    return call_factory(architecture, ArchitectureError, **arguments)


def architecture_of(
    checkpoint: Checkpoint, override: str | None = None, *, trusted: bool = False, agreed: Collection[str] = ()
) -> str:
    """Return the architecture of a checkpoint: the override, else what its metadata names.

    Args:
        checkpoint: it may come from anyone, so code that it names is run only where a person agreed.
        override: the architecture that a person names.
        trusted: whether the person trusts all code that checkpoints name.
        agreed: code that the person trusts.

    Raises:
        ArchitectureError: none is named, there is no such one, or it is code that nobody agreed to run.
    """
    if override:
        return canonical(override)
    named = recorded_name(checkpoint)
    if named is None:
        raise ArchitectureError(
            "the checkpoint does not say which architecture it belongs to; add --arch NAME (or package.module:factory)"
        )
    name = canonical(named)
    if is_code(name) and name not in agreed:
        check_trusted(name, "--arch", ArchitectureError, trusted=trusted)
    return name


def recorded_name(checkpoint: Checkpoint) -> str | None:
    """Return the architecture that a checkpoint's metadata name, or the config.json of the folder that it was in.

    Raises:
        CheckpointError: the metadata do not describe a folder.
    """
    if ARCHITECTURE_KEY in checkpoint.metadata or not folders.is_of_folder(checkpoint):
        return checkpoint.metadata.get(ARCHITECTURE_KEY)
    from dcomp.learning.architectures import transformers_networks

    config = transformers_networks.config_beside(checkpoint)
    return None if config is None else f"{TRANSFORMERS}{config['architectures'][0]}"


def is_code(architecture: str) -> bool:
    """Return whether a network's canonical name is that of a person's code."""
    return architecture not in BUILT_IN_NETWORKS and not architecture.startswith((TORCHVISION, TRANSFORMERS))


def load_into(model: nn.Module, checkpoint: Checkpoint, architecture: str) -> None:
    """Copy a checkpoint's tensors into a model, name by name; of tied weights one name is enough.

    Raises:
        ArchitectureError: names or shapes differ; the first few are listed.
    """
    check_shapes(model, {name: array.shape for name, array in checkpoint.tensors.items()}, architecture)
    model.load_state_dict({name: to_torch(array) for name, array in checkpoint.tensors.items()}, strict=False)


def check_shapes(
    model: nn.Module, shapes: Mapping[str, tuple[int, ...]], architecture: str, *, exact: bool = True
) -> None:
    """Compare a checkpoint's names and shapes with a model's, which may be on the meta device.

    Args:
        model: the network.
        shapes: of the checkpoint's tensors, by name.
        architecture: what the model is called, for the error.
        exact: whether lengths count; else only names and numbers of dimensions do.

    Raises:
        ArchitectureError: names or shapes differ; the first few are listed.
    """
    state = model.state_dict(keep_vars=True)
    missing = set(missing_names(state, shapes))
    expected = {name: tuple(tensor.shape) for name, tensor in state.items() if name in shapes or name in missing}
    wrong = [
        f"{name} is {shapes.get(name, 'absent')} where the network has {expected.get(name, 'none')}"
        for name in dict.fromkeys([*shapes, *expected])
        if shapes.get(name) != expected.get(name)
    ]
    if wrong and (exact or _dimensions(shapes) != _dimensions(expected)):
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ArchitectureError(f"the checkpoint does not fit {architecture}: {'; '.join(wrong[:3])}{more}")


def _dimensions(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Return the number of dimensions of each tensor."""
    return {name: len(shape) for name, shape in shapes.items()}


def load_pretrained(model: nn.Module, architecture: str) -> None:
    """Fill a network of torchvision with its weights.

    Raises:
        ArchitectureError: it is another network, or its weights cannot be downloaded.
    """
    if not architecture.startswith(TORCHVISION):
        raise ArchitectureError(f"--pretrained goes with {TORCHVISION}NAME; there are no weights for {architecture}")
    from dcomp.learning.architectures import zoo

    zoo.fill(model, architecture.removeprefix(TORCHVISION))


def parameters_of(model: nn.Module) -> dict[str, str | None]:
    """Return for each name in a model's state the first name of its parameter, or None for a buffer."""
    first: dict[int, str] = {}
    return {
        name: first.setdefault(id(tensor), name) if isinstance(tensor, nn.Parameter) else None
        for name, tensor in model.state_dict(keep_vars=True).items()
    }


def tensors_of(model: nn.Module) -> dict[str, np.ndarray]:
    """Return a model's state as the tensors of a checkpoint, in the model's order."""
    return {name: to_numpy(tensor) for name, tensor in model.state_dict().items()}
