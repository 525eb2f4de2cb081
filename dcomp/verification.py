"""Whether a container is whole, and equal to a checkpoint."""

from collections.abc import Mapping

import numpy as np

from dcomp import dtypes, tensors
from dcomp.checkpoint import Checkpoint
from dcomp.container.reader import DEFAULT_MAX_MEMORY, Container
from dcomp.errors import ChecksumError, ContainerError, DifferenceError, LimitError
from dcomp.observer import Observer, Silent

SILENT = Silent()


def verify(
    container: Container,
    against: Checkpoint | None = None,
    observer: Observer = SILENT,
    *,
    max_memory: int = DEFAULT_MAX_MEMORY,
) -> None:
    """Decode every tensor, so that every checksum and every code is looked at; compare them with a checkpoint.

    Raises:
        ContainerError: damaged tensors, all of them named, or one that needs more memory than `max_memory` bytes.
        DifferenceError: the first thing in which container and checkpoint differ; damage goes before other elements.
    """
    if against is not None:
        _compare_outlines(container, against)
    observer.started_bytes(sum(entry.spec.nbytes for entry in container.directory.entries))
    damaged: list[ContainerError] = []
    difference = None
    try:
        for name, entry in container.entries.items():
            try:
                found = container.decode([name], max_memory=max_memory)[name]
            except LimitError:
                raise
            except ContainerError as error:
                named = str(error) if repr(name) in str(error) else f"tensor {name!r}: {error}"
                damaged.append(type(error)(named))
            else:
                if against is not None and difference is None:
                    difference = _difference(name, found, against.tensors[name])
            observer.advanced(entry.spec.nbytes)
    finally:
        observer.finished()
    if damaged:
        kinds = {type(error) for error in damaged}
        kind = ChecksumError if kinds == {ChecksumError} else ContainerError
        raise kind("; ".join(map(str, damaged)))
    if against is not None:
        difference = difference or _metadata_difference(container.metadata, against.metadata)
    if difference is not None:
        raise DifferenceError(difference)


def identical(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two checkpoints agree in names, order, dtypes, shapes, metadata and every bit."""
    return (
        list(one.tensors) == list(other.tensors)
        and one.metadata == other.metadata
        and all(
            a.dtype == b.dtype and a.shape == b.shape and np.array_equal(dtypes.bit_patterns(a), dtypes.bit_patterns(b))
            for a, b in zip(one.tensors.values(), other.tensors.values(), strict=True)
        )
    )


def _compare_outlines(container: Container, checkpoint: Checkpoint) -> None:
    """Raise DifferenceError unless names, order, dtypes and shapes are the same."""
    specs = tensors.specs_of(checkpoint.tensors)
    for name in specs:
        if name not in container.entries:
            raise DifferenceError(f"tensor {name!r} is in the checkpoint only")
    for name, entry in container.entries.items():
        if name not in specs:
            raise DifferenceError(f"tensor {name!r} is in the container only")
        if entry.spec != specs[name]:
            ours, theirs = (f"{spec.dtype} {spec.shape}" for spec in (entry.spec, specs[name]))
            raise DifferenceError(f"tensor {name!r} is {ours} in the container and {theirs} in the checkpoint")
    if list(specs) != container.names:
        raise DifferenceError("the tensors are in another order")


def _difference(name: str, ours: np.ndarray, theirs: np.ndarray) -> str | None:
    differs = dtypes.bit_patterns(ours) != dtypes.bit_patterns(theirs)
    if not differs.any():
        return None
    first = tuple(int(place) for place in np.unravel_index(int(differs.argmax()), ours.shape))
    return f"tensor {name!r} differs in {int(differs.sum()):,} of {ours.size:,} elements, the first at {first}"


def _metadata_difference(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str | None:
    for key in {**ours, **theirs}:
        if ours.get(key) != theirs.get(key):
            return f"the metadata differ, first in {key!r}"
    return None if list(ours) == list(theirs) else "the metadata are in another order"
