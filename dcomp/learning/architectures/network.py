"""An entry of the registry of networks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

PHOTO = 224  # pixels that a network sees which does not say


@dataclass(frozen=True)
class Network:
    """How a network is made, and what with unless someone or the data says otherwise.

    Args:
        make: takes the arguments as keywords.
        defaults: classes, grayscale, size (height and width of its images) and dropout; those that are not there are
            passed only where they are given.
    """

    make: Callable[..., nn.Module]
    defaults: Mapping[str, Any] = field(default_factory=dict)
