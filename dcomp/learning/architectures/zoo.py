"""torchvision's classifiers, with the number of classes, channels and the dropout that is asked for."""

from difflib import get_close_matches
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dcomp.errors import ArchitectureError, first_line
from dcomp.learning import vision
from dcomp.learning.architectures.network import PHOTO, Network

WITH_HEADS_HALFWAY = ("googlenet", "inception_v3")
"""Networks that answer otherwise in training, by classifiers halfway; they are made without those."""


def find(name: str) -> Network:
    """The network that torchvision has by this name.

    Raises:
        ArchitectureError: it has none.
    """
    known = vision.models.list_models(module=vision.models)
    if name not in known:
        near = get_close_matches(name, known, cutoff=0)
        raise ArchitectureError(
            f"torchvision has no classifier {name!r}; the nearest are {', '.join(near)}; "
            "name a network of your own as package.module:factory"
        )
    presets = vision.models.get_model_weights(name).DEFAULT.transforms
    size = presets.keywords.get("crop_size", PHOTO)
    return Network(partial(_make, name), {"classes": 1000, "grayscale": False, "size": size})


def fill(model: nn.Module, name: str) -> None:
    """Give a network torchvision's weights, all but those of layers that differ: another number of classes.

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
    own = model.state_dict()
    for key, value in pretrained.items():
        wanted = own[key].shape if key in own else None
        if wanted == (*value.shape[:1], 1, *value.shape[2:]):  # a gray pixel has one value in all three channels
            value = value.sum(1, keepdim=True)
        if value.shape == wanted:
            own[key] = value
    model.load_state_dict(own)


def _make(name: str, classes: int, grayscale: bool, size: int, dropout: float | None = None) -> nn.Module:
    options: dict[str, Any] = {"aux_logits": False, "init_weights": True} if name in WITH_HEADS_HALFWAY else {}
    if name.startswith("vit_"):
        options["image_size"] = size
    model: nn.Module = vision.models.get_model(name, weights=None, num_classes=classes, **options)
    if grayscale:
        _see_one_channel(model)
    if dropout is not None:
        found = [module for module in model.modules() if isinstance(module, nn.Dropout)]
        if not found:
            raise ArchitectureError(f"torchvision's {name} has no dropout; leave --dropout out")
        for module in found:
            module.p = dropout
    return model


def _see_one_channel(model: nn.Module) -> None:
    """Replace the first convolution, which sees three channels, by one that sees one."""
    path, first = next((path, part) for path, part in model.named_modules() if isinstance(part, nn.Conv2d))
    parent, _, attribute = path.rpartition(".")
    seen = nn.Conv2d(
        1,
        first.out_channels,
        first.kernel_size,  # type: ignore[arg-type]  # a pair of numbers
        first.stride,  # type: ignore[arg-type]
        first.padding,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
    setattr(model.get_submodule(parent), attribute, seen)
