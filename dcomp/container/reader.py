""".dcz file -> checkpoint, whole or tensor by tensor."""

import mmap
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from zlib import crc32

import numpy as np

from dcomp.checkpoint import Checkpoint
from dcomp.coding import tensor
from dcomp.coding.tensor import EncodedTensor
from dcomp.container import layout
from dcomp.container.layout import Entry
from dcomp.errors import ChecksumError, ContainerError, LimitError

DEFAULT_MAX_MEMORY = 8 << 30


class Container:
    """A .dcz file's directory, read and checked, and its records, read when asked for."""

    def __init__(self, data: bytes | memoryview) -> None:
        """Read the header and directory of `data`.

        Raises:
            ContainerError: they break the format.
        """
        self._data = memoryview(data)
        self.directory = layout.read_header(self._data)
        self.nbytes = len(self._data)

    @classmethod
    def open(cls, path: Path) -> "Container":
        """Map a file into memory.

        Raises:
            ContainerError: not a .dcz file, or one that cannot be read.
        """
        try:
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return cls(memoryview(mapped))
        except (OSError, ValueError) as error:  # an empty file cannot be mapped
            raise ContainerError(f"cannot read {path}: {error}") from error
        except ContainerError as error:
            raise type(error)(f"{path}: {error}") from error

    @cached_property
    def _entry_of(self) -> dict[str, Entry]:
        return {entry.name: entry for entry in self.directory.entries}

    @property
    def names(self) -> list[str]:
        """Names of the tensors, in order."""
        return list(self._entry_of)

    @property
    def metadata(self) -> dict[str, str]:
        """The checkpoint's metadata."""
        return self.directory.metadata

    def encoded(self, name: str) -> EncodedTensor:
        """The record of a tensor, checked and parsed, not decoded.

        Raises:
            ChecksumError, ContainerError: it is damaged, or breaks the format.
        """
        entry = self._entry_of[name]
        record = self._data[entry.offset : entry.offset + entry.size]
        if crc32(record) != entry.checksum:
            raise ChecksumError(f"tensor {name!r}: its checksum does not match, the file is damaged")
        return EncodedTensor.parse(record, entry.dtype, entry.shape, f"tensor {name!r}")

    def decode(
        self, names: Sequence[str] | None = None, *, max_memory: int = DEFAULT_MAX_MEMORY
    ) -> dict[str, np.ndarray]:
        """Decode the tensors named, or all.

        Raises:
            LimitError: that would take more than `max_memory` bytes.
            ContainerError: as `encoded`, or damaged streams.
        """
        names = self.names if names is None else names
        _check_memory(sum(self._entry_of[name].nbytes for name in names), max_memory)
        tensors = [self.encoded(name) for name in names]
        _check_memory(sum(encoded.memory for encoded in tensors), max_memory)
        return dict(zip(names, tensor.decode(tensors), strict=True))

    def checkpoint(self, *, max_memory: int = DEFAULT_MAX_MEMORY) -> Checkpoint:
        """The whole checkpoint; raises as `decode`."""
        return Checkpoint(self.decode(max_memory=max_memory), self.metadata)


def _check_memory(needed: int, limit: int) -> None:
    if needed > limit:
        raise LimitError(
            f"decoding takes about {needed:,} bytes of memory, more than the limit of {limit:,}; "
            "max_memory (--max-memory) raises it"
        )
