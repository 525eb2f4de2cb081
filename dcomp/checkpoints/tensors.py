"""Named arrays that are read when they are asked for, and known by dtype and shape before."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

BATCH_BYTES = 1 << 25
"""Small tensors are read together, up to so many bytes of them; a larger one is read alone."""


@dataclass(frozen=True)
class Spec:
    """A tensor's dtype and shape."""

    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.size * self.dtype.itemsize


class Tensors(Mapping[str, np.ndarray]):
    """Arrays by name, in order. Each is read anew when asked for, and its memory goes with it."""

    def __init__(self, specs: Mapping[str, Spec], read: Callable[[Sequence[str]], list[np.ndarray]]) -> None:
        """Take the dtypes and shapes of all, and what reads some of them."""
        self.specs = dict(specs)
        self.read = read

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.specs:
            raise KeyError(name)
        return self.read([name])[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self.specs)

    def __len__(self) -> int:
        return len(self.specs)

    def stream(self) -> Iterator[tuple[str, np.ndarray]]:
        """All in order, small ones read together; no more than a batch of them is held."""
        for names in _batches(self.specs):
            arrays = self.read(names)[::-1]
            for name in names:
                yield name, arrays.pop()


def is_text(name: str) -> bool:
    """Whether UTF-8 can hold a name: lone surrogates, which JSON and pickles may hold, it cannot."""
    return name == name.encode(errors="replace").decode()


def specs_of(tensors: Mapping[str, np.ndarray]) -> dict[str, Spec]:
    """Dtypes and shapes of arrays, without reading them where they are read when asked for."""
    if isinstance(tensors, Tensors):
        return tensors.specs
    return {name: Spec(array.dtype, array.shape) for name, array in tensors.items()}


def subset(tensors: Mapping[str, np.ndarray], names: Sequence[str]) -> Mapping[str, np.ndarray]:
    """Some of the arrays, as they are read."""
    if isinstance(tensors, Tensors):
        return Tensors({name: tensors.specs[name] for name in names}, tensors.read)
    return {name: tensors[name] for name in names}


def renamed(tensors: Mapping[str, np.ndarray], names: Sequence[str]) -> Mapping[str, np.ndarray]:
    """The arrays under other names, given in their order, as they are read."""
    old = dict(zip(names, tensors, strict=True))
    if isinstance(tensors, Tensors):
        specs, read = tensors.specs, tensors.read
        return Tensors({name: specs[old[name]] for name in names}, lambda some: read([old[name] for name in some]))
    return {name: tensors[old[name]] for name in names}


def replaced(tensors: Mapping[str, np.ndarray], changed: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """The arrays with some of them replaced or added; the others as they are read."""
    if not isinstance(tensors, Tensors):
        return {**tensors, **changed}

    def read(names: Sequence[str]) -> list[np.ndarray]:
        same = [name for name in names if name not in changed]
        found = dict(zip(same, tensors.read(same), strict=True))
        return [changed[name] if name in changed else found[name] for name in names]

    return Tensors({**tensors.specs, **specs_of(changed)}, read)


def stream(tensors: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """All arrays in order, one after the other in memory where they are read when asked for."""
    return tensors.stream() if isinstance(tensors, Tensors) else iter(tensors.items())


def _batches(specs: Mapping[str, Spec]) -> Iterator[list[str]]:
    names: list[str] = []
    held = 0
    for name, spec in specs.items():
        if names and held + spec.nbytes > BATCH_BYTES:
            yield names
            names, held = [], 0
        names.append(name)
        held += spec.nbytes
    if names:
        yield names
