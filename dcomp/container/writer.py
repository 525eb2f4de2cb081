"""Checkpoint -> .dcz file, one tensor after the other."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import IO, BinaryIO
from zlib import crc32

import numpy as np

from dcomp.checkpoints import dtypes, tensors, ties
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.checkpoints.tensors import Spec
from dcomp.coding import encoder
from dcomp.coding.level import DEFAULT, Level
from dcomp.coding.limits import MAX_METADATA, MAX_TENSORS
from dcomp.coding.values import Buffer
from dcomp.container import layout
from dcomp.container.layout import Entry
from dcomp.errors import CheckpointError
from dcomp.system import parallel
from dcomp.system.temporary import Scratch

KEPT_IN_MEMORY = 1 << 24
"""Bytes of records that wait in memory for the directory, which stands before them; more wait in a temporary file."""

COPIED = 1 << 20
"""Bytes that are copied at a time."""


def write(
    checkpoint: Checkpoint,
    stream: BinaryIO,
    level: Level = DEFAULT,
    *,
    workers: int = 1,
    on_tensor: Callable[[int], object] = lambda nbytes: None,
) -> None:
    """Encode a checkpoint; the number of workers does not change the bytes.

    Args:
        checkpoint: the checkpoint.
        stream: the file.
        level: how hard to try.
        workers: processes that encode at the same time, each a tensor.
        on_tensor: called with the dense bytes of each tensor when it is encoded.

    Raises:
        CheckpointError: names, metadata, dtypes or shapes that a container cannot hold.
    """
    specs = tensors.specs_of(checkpoint.tensors)
    _check(checkpoint.metadata, specs)
    tied = ties.find(checkpoint.tensors)
    with_record = [name for name in specs if name not in tied]
    written: dict[str, tuple[int, Entry]] = {}
    with Scratch(KEPT_IN_MEMORY) as records:
        for name, parts in _encode_each(checkpoint.tensors, with_record, level, workers):
            start = records.tell()
            written[name] = start, Entry(name, specs[name], *_spool(parts, records))
            on_tensor(specs[name].nbytes)
        entries = [
            Entry(name, specs[name], 0, tied_to=tied[name]) if name in tied else written[name][1] for name in specs
        ]
        stream.write(layout.write_header(checkpoint.metadata, entries))
        for name in with_record:
            start, entry = written[name]
            records.seek(start)
            _copy(records, stream, entry.size)


def _encode_each(
    all_tensors: Mapping[str, np.ndarray], names: Sequence[str], level: Level, workers: int
) -> Iterator[tuple[str, Iterable[Buffer]]]:
    """Yield the records of tensors, in parts: in order, or as workers finish them."""
    if workers == 1:
        for name, array in tensors.stream(tensors.subset(all_tensors, names)):
            yield name, encoder.encode_tensor(array, level).parts()
        return
    specs = tensors.specs_of(all_tensors)
    largest_first = sorted(names, key=lambda name: -specs[name].nbytes)

    def task(name: str) -> Sequence[Buffer]:
        return list(encoder.encode_tensor(all_tensors[name], level).parts())

    for number, parts in parallel.results([partial(task, name) for name in largest_first], workers):
        yield largest_first[number], parts


def _spool(parts: Iterable[Buffer], records: IO[bytes]) -> tuple[int, int]:
    """Write a record; return its size and checksum."""
    size = checksum = 0
    for part in parts:
        size += len(part)
        checksum = crc32(part, checksum)
        records.write(part)
    return size, checksum


def _copy(source: IO[bytes], target: BinaryIO, size: int) -> None:
    while size:
        piece = source.read(min(size, COPIED))
        target.write(piece)
        size -= len(piece)


def _check(metadata: Mapping[str, str], specs: Mapping[str, Spec]) -> None:
    if len(specs) > MAX_TENSORS:
        raise CheckpointError(f"{len(specs):,} tensors are more than the {MAX_TENSORS:,} that a container can hold")
    if len(metadata) > MAX_METADATA:
        raise CheckpointError(f"{len(metadata):,} metadata entries are more than the {MAX_METADATA:,} of a container")
    for text in [*specs, *metadata, *metadata.values()]:
        if not isinstance(text, str) or not tensors.is_text(text):
            raise CheckpointError(f"{text!r} is a name or metadata entry, but no string that UTF-8 can encode")
    for name, spec in specs.items():
        if spec.dtype not in dtypes.NAME_OF:
            raise CheckpointError(f"tensor {name!r} has dtype {spec.dtype}, which safetensors does not know")
        if problem := layout.shape_problem(spec.shape):
            raise CheckpointError(f"tensor {name!r} {problem}")
