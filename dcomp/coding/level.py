"""How hard the encoder tries; the format is the same at every level."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Level:
    """What is tried for each tensor.

    Attributes:
        chains: whether codes may depend on the code before.
        orders: whether columns first is tried where a sample suggests that it is smaller.
        classes: numbers of density classes that are tried; none if empty.
        exhaustive: whether to try encodings that a sample does not suggest.
        zstd: compression level of Zstandard frames.
    """

    chains: bool
    orders: bool
    classes: tuple[int, ...]
    exhaustive: bool
    zstd: int


LEVELS: dict[str, Level] = {
    "fast": Level(chains=False, orders=False, classes=(), exhaustive=False, zstd=3),
    "default": Level(chains=True, orders=True, classes=(2, 3, 4), exhaustive=False, zstd=9),
    "max": Level(chains=True, orders=True, classes=(2, 3, 4, 6, 8), exhaustive=True, zstd=19),
}
DEFAULT = LEVELS["default"]
