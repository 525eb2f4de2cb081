"""Verification: whether a container is undamaged, and equal to a checkpoint."""

from collections.abc import Mapping

import numpy as np

from dcomp.checkpoints import dtypes, tensors
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.checkpoints.safetensors_file import HEADER_KEY
from dcomp.container.reader import Container
from dcomp.errors import ChecksumError, ContainerError, DifferenceError
from dcomp.progress.observer import SILENT, Observer


def verify(
    container: Container,
    against: Checkpoint | None = None,
    observer: Observer = SILENT,
    *,
    max_memory: int | None = None,
) -> None:
    """Decode every record, which checks every checksum and every code; compare tensors with a checkpoint.

    Raises:
        LimitError: a tensor needs more memory than `max_memory` bytes, by default the limit of the container.
        ContainerError: damaged tensors, all of them named.
        DifferenceError: the first difference between container and checkpoint; damage is reported before it.
    """
    if against is not None:
        _compare_outlines(container, against)
    damaged, difference = _decode(container, against, observer, max_memory)
    if damaged:
        raise _combined_error(damaged, container)
    if against is not None:
        difference = difference or _metadata_difference(container.metadata, against.metadata)
        if difference is None and list(against.tensors) != container.names:
            difference = "every tensor is equal, but they are in another order"
    if difference is not None:
        raise DifferenceError(difference)


def _decode(
    container: Container, against: Checkpoint | None, observer: Observer, max_memory: int | None
) -> tuple[dict[str, ContainerError], str | None]:
    """Decode every tensor; without a checkpoint to compare with, skip tied tensors.

    Returns:
        the errors of damaged tensors by name, and the first difference from the checkpoint.
    """
    entries = container.entries
    tied = {name for name, entry in entries.items() if entry.tied_to is not None and against is None}
    names = [name for name in entries if name not in tied]
    damaged: dict[str, ContainerError] = {}
    difference = None
    observer.activity("verifying")
    observer.started_bytes(sum(entry.spec.nbytes for entry in entries.values()))
    try:
        for name, tensor in container.decode_each(names, max_memory=max_memory):
            if isinstance(tensor, ContainerError):
                damaged[name] = tensor
            elif against is not None and difference is None:
                difference = _difference(name, tensor, against.tensors[name])
            observer.finished_bytes(entries[name].spec.nbytes)
        observer.finished_bytes(sum(entries[name].spec.nbytes for name in tied))
    finally:
        observer.finished()
    return damaged, difference


def _combined_error(damaged: Mapping[str, ContainerError], container: Container) -> ContainerError:
    """Return one error for all damaged tensors and the tensors that are tied to them."""
    texts = []
    for name, entry in container.entries.items():
        if (error := damaged.get(name)) is not None:
            texts.append(str(error) if repr(name) in str(error) else f"tensor {name!r}: {error}")
        elif entry.tied_to in damaged:
            texts.append(f"tensor {name!r} is tied to {entry.tied_to!r}")
    kind = ChecksumError if all(type(error) is ChecksumError for error in damaged.values()) else ContainerError
    return kind("; ".join(texts))


def identical(first: Checkpoint, second: Checkpoint) -> bool:
    """Return whether two checkpoints agree in names, order, dtypes, shapes, metadata and every bit."""
    return (
        list(first.tensors) == list(second.tensors)
        and first.metadata == second.metadata
        and all(
            a.dtype == b.dtype and a.shape == b.shape and np.array_equal(dtypes.bit_patterns(a), dtypes.bit_patterns(b))
            for a, b in zip(first.tensors.values(), second.tensors.values(), strict=True)
        )
    )


def _compare_outlines(container: Container, checkpoint: Checkpoint) -> None:
    """Raise DifferenceError unless names, dtypes and shapes are the same."""
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


def _difference(name: str, ours: np.ndarray, theirs: np.ndarray) -> str | None:
    differs = dtypes.bit_patterns(ours) != dtypes.bit_patterns(theirs)
    if not differs.any():
        return None
    first = tuple(int(place) for place in np.unravel_index(int(differs.argmax()), ours.shape))
    return f"tensor {name!r} differs in {int(differs.sum()):,} of {ours.size:,} elements, the first at {first}"


def _metadata_difference(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str | None:
    ours, theirs = ({key: text for key, text in entries.items() if key != HEADER_KEY} for entries in (ours, theirs))
    for key in {**ours, **theirs}:
        if ours.get(key) != theirs.get(key):
            return f"the metadata differ, first in {key!r}"
    return None if list(ours) == list(theirs) else "the metadata are in another order"
