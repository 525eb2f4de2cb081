"""torchvision's classifiers, for any number of classes, channels and any dropout."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dcomp.errors import ArchitectureError, first_line, nearest
from dcomp.learning import vision
from dcomp.learning.architectures.network import PHOTO, Network

WITH_HEADS_HALFWAY = ("googlenet", "inception_v3")
"""Networks with classifiers halfway, which change the output in training; they are made without those."""


def find(name: str) -> Network:
    """Return the network that torchvision has by this name.

    Raises:
        ArchitectureError: it has none.
    """
    names = vision.models.list_models(module=vision.models)
    if name not in names:
        raise ArchitectureError(
            f"torchvision has no classifier {name!r}; {nearest(name, names)}; "
            "name a network of your own as package.module:factory"
        )
    presets = vision.models.get_model_weights(name).DEFAULT.transforms
    size = presets.keywords.get("crop_size", PHOTO)
    return Network(partial(_make, name), {"classes": 1000, "grayscale": False, "size": size})


def fill(model: nn.Module, name: str) -> None:
    """Give a network torchvision's weights, except those of layers that differ, as by another number of classes.

    Raises:
        ArchitectureError: they cannot be downloaded.
    """
    weights = vision.models.get_model_weights(name).DEFAULT
    try:
        pretrained: dict[str, Tensor] = weights.get_state_dict(progress=False)
    except (OSError, RuntimeError) as error:
        folder = f"{torch.hub.get_dir()}/checkpoints"
        raise ArchitectureError(
            f"the weights of {name} cannot be downloaded ({first_line(error)}); put {weights.url} into {folder}, "
            "or leave --pretrained out"
        ) from error
    state = model.state_dict()
    for key, value in pretrained.items():
        wanted = state[key].shape if key in state else None
        if wanted == (*value.shape[:1], 1, *value.shape[2:]):  # a gray pixel has one value in all three channels
            value = value.sum(1, keepdim=True)
        if value.shape == wanted:
            state[key] = value
    model.load_state_dict(state)


def _make(name: str, classes: int, grayscale: bool, size: int, dropout: float | None = None) -> nn.Module:
    options: dict[str, Any] = {"aux_logits": False, "init_weights": True} if name in WITH_HEADS_HALFWAY else {}
    if name.startswith("vit_"):
        options["image_size"] = size
    model: nn.Module = vision.models.get_model(name, weights=None, num_classes=classes, **options)
    if grayscale:
        _see_one_channel(model)
    if dropout is not None:
        dropouts = [module for module in model.modules() if isinstance(module, nn.Dropout)]
        if not dropouts:
            raise ArchitectureError(f"torchvision's {name} has no dropout; leave --dropout out")
        for module in dropouts:
            module.p = dropout
    return model


def _see_one_channel(model: nn.Module) -> None:
    """Replace the first convolution, which sees three channels, by one that sees one."""
    path, first = next((path, part) for path, part in model.named_modules() if isinstance(part, nn.Conv2d))
    parent, _, attribute = path.rpartition(".")
    convolution = nn.Conv2d(
        1,
        first.out_channels,
        first.kernel_size,  # type: ignore[arg-type]  # a pair of numbers
        first.stride,  # type: ignore[arg-type]
        first.padding,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
    setattr(model.get_submodule(parent), attribute, convolution)
