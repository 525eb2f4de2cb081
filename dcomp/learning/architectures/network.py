"""How a network is made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

PHOTO = 224  # height and width of images, where a network has no other


@dataclass(frozen=True)
class Network:
    """The function that makes a network, and its default arguments.

    Args:
        make: takes the arguments as keywords.
        defaults: classes, grayscale, size (height and width of its images) and dropout; an argument without a
            default is passed only if a person sets it.
    """

    make: Callable[..., nn.Module]
    defaults: Mapping[str, Any] = field(default_factory=dict)
