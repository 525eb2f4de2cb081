"""Named arrays that are read when they are indexed; their dtypes and shapes are known before."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

BATCH_BYTES = 1 << 25
"""Bytes of small tensors that are read together; a larger one is read alone."""


@dataclass(frozen=True)
class Spec:
    """A tensor's dtype and shape."""

    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Return the number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Return the bytes of the elements."""
        return self.size * self.dtype.itemsize


class Tensors(Mapping[str, np.ndarray]):
    """Arrays by name, in order. An array is read at every access, and not kept."""

    def __init__(self, specs: Mapping[str, Spec], read: Callable[[Sequence[str]], list[np.ndarray]]) -> None:
        """Take the dtypes and shapes of all arrays, and a function that reads some of them."""
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
        """Yield all names and arrays in order; small ones are read together, and one batch at a time is in memory."""
        for names in _batches(self.specs):
            arrays = self.read(names)[::-1]
            for name in names:
                yield name, arrays.pop()


def is_text(name: str) -> bool:
    """Return whether UTF-8 can encode a name: JSON and pickles may hold lone surrogates, which it cannot."""
    return name == name.encode(errors="replace").decode()


def specs_of(tensors: Mapping[str, np.ndarray]) -> dict[str, Spec]:
    """Return the dtypes and shapes of arrays, without reading lazy ones."""
    if isinstance(tensors, Tensors):
        return tensors.specs
    return {name: Spec(array.dtype, array.shape) for name, array in tensors.items()}


def subset(tensors: Mapping[str, np.ndarray], names: Sequence[str]) -> Mapping[str, np.ndarray]:
    """Return some of the arrays; lazy ones stay lazy."""
    if isinstance(tensors, Tensors):
        return Tensors({name: tensors.specs[name] for name in names}, tensors.read)
    return {name: tensors[name] for name in names}


def renamed(tensors: Mapping[str, np.ndarray], names: Sequence[str]) -> Mapping[str, np.ndarray]:
    """Return the arrays under new names, in the same order; lazy ones stay lazy."""
    old = dict(zip(names, tensors, strict=True))
    if isinstance(tensors, Tensors):
        specs, read = tensors.specs, tensors.read
        return Tensors({name: specs[old[name]] for name in names}, lambda names: read([old[name] for name in names]))
    return {name: tensors[old[name]] for name in names}


def replaced(tensors: Mapping[str, np.ndarray], changed: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Return the arrays with some of them replaced or added; lazy ones stay lazy."""
    if not isinstance(tensors, Tensors):
        return {**tensors, **changed}

    def read(names: Sequence[str]) -> list[np.ndarray]:
        same = [name for name in names if name not in changed]
        arrays = dict(zip(same, tensors.read(same), strict=True))
        return [changed[name] if name in changed else arrays[name] for name in names]

    return Tensors({**tensors.specs, **specs_of(changed)}, read)


def stream(tensors: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield all names and arrays in order; lazy ones are read one batch after the other."""
    return tensors.stream() if isinstance(tensors, Tensors) else iter(tensors.items())


def _batches(specs: Mapping[str, Spec]) -> Iterator[list[str]]:
    """Yield the names of arrays that are read together."""
    names: list[str] = []
    nbytes = 0
    for name, spec in specs.items():
        if names and nbytes + spec.nbytes > BATCH_BYTES:
            yield names
            names, nbytes = [], 0
        names.append(name)
        nbytes += spec.nbytes
    if names:
        yield names
