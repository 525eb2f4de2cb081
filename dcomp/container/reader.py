""".dcz file -> checkpoint, whole or tensor by tensor."""

import mmap
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from zlib import crc32

import numpy as np

from dcomp.checkpoint import Checkpoint
from dcomp.coding import encoder, tensor
from dcomp.coding.level import LEVELS
from dcomp.coding.tensor import EncodedTensor
from dcomp.container import layout
from dcomp.container.layout import Entry
from dcomp.errors import ChecksumError, ContainerError, LimitError
from dcomp.tensors import Tensors

DEFAULT_MAX_MEMORY = 8 << 30
FAST = LEVELS["fast"]


class Container:
    """A .dcz file's directory, read and checked, and its records, read when asked for."""

    def __init__(self, data: bytes | memoryview | mmap.mmap) -> None:
        """Read the header and directory of `data`.

        Raises:
            ContainerError: they break the format.
        """
        self._mapped = data if isinstance(data, mmap.mmap) else None
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
            return cls(mapped)
        except OSError as error:
            raise ContainerError(f"cannot read {path}: {error.strerror or error}") from error
        except ValueError as error:  # an empty file cannot be mapped
            raise ContainerError(f"cannot read {path}: {error}") from error
        except ContainerError as error:
            raise type(error)(f"{path}: {error}") from error

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """The entries of the directory by name, in order."""
        return {entry.name: entry for entry in self.directory.entries}

    @property
    def names(self) -> list[str]:
        """Names of the tensors, in order."""
        return list(self.entries)

    @property
    def metadata(self) -> dict[str, str]:
        """The checkpoint's metadata."""
        return self.directory.metadata

    def record(self, name: str) -> memoryview:
        """The record of a tensor, or of the one that it is tied to, as it stands in the file."""
        entry = self._entry_with_record(name)
        return self._data[entry.offset : entry.offset + entry.size]

    def encoded(self, name: str) -> EncodedTensor:
        """The record of a tensor, or of the one that it is tied to, checked and parsed, not decoded.

        Raises:
            ChecksumError, ContainerError: it is damaged, or breaks the format.
        """
        entry, record = self._entry_with_record(name), self.record(name)
        if crc32(record) != entry.checksum:
            raise ChecksumError(f"tensor {name!r}: its checksum does not match, the file is damaged")
        return EncodedTensor.parse(record, entry.spec.dtype, entry.spec.shape, f"tensor {name!r}")

    def records(self, names: Sequence[str], *, max_memory: int = DEFAULT_MAX_MEMORY) -> dict[str, EncodedTensor]:
        """The records of those of the tensors named that have one, parsed, to be decoded together.

        Raises:
            LimitError: decoding them would take more than `max_memory` bytes.
            ContainerError: as `encoded`.
        """
        parsed: dict[str, EncodedTensor] = {}
        needed = 0
        for name in names:
            if self.entries[name].tied_to is None:
                parsed[name] = self.encoded(name)
                needed += parsed[name].memory
                _check_memory(needed, max_memory)
        return parsed

    def _entry_with_record(self, name: str) -> Entry:
        entry = self.entries[name]
        return self.entries[entry.tied_to] if entry.tied_to is not None else entry

    def decode(
        self, names: Sequence[str] | None = None, *, max_memory: int = DEFAULT_MAX_MEMORY
    ) -> dict[str, np.ndarray]:
        """Decode the tensors named, or all, together.

        Raises:
            LimitError: that would take more than `max_memory` bytes.
            ContainerError: as `encoded`, or damaged streams.
        """
        names = self.names if names is None else names
        _check_memory(sum(self.entries[name].spec.nbytes for name in names), max_memory)
        parsed: dict[str, EncodedTensor] = {}
        needed = 0
        for name in names:
            record = self._entry_with_record(name).name
            if record not in parsed:
                parsed[record] = self.encoded(name)
            needed += parsed[record].memory
            _check_memory(needed, max_memory)  # before the next one is parsed: tables of codes take memory too
        encoded = [parsed[self._entry_with_record(name).name] for name in names]
        decoded = dict(zip(names, tensor.decode(encoded), strict=True))
        self._release(names)
        for name in names:
            if self.entries[name].tied_to is not None:  # the same bytes, of a dtype and shape of its own
                spec = self.entries[name].spec
                decoded[name] = decoded[name].reshape(-1).view(np.uint8).view(spec.dtype).reshape(spec.shape)
        return decoded

    def csr(self, name: str, *, max_memory: int = DEFAULT_MAX_MEMORY) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A tensor's kept elements as row starts, columns and values; raises as `decode`."""
        entry = self.entries[name]
        encoded = self.encoded(name)
        if entry.tied_to is not None and entry.spec != self.entries[entry.tied_to].spec:  # other rows than the record's
            encoded = encoder.encode(self.decode([name], max_memory=max_memory)[name], FAST)
        _check_memory(encoded.csr_memory, max_memory)
        return tensor.csr(encoded)

    def _release(self, names: Sequence[str]) -> None:
        """Give back the memory that the records of these tensors, one after the other, took when they were read."""
        if self._mapped is None or not names:
            return
        offsets = [self._entry_with_record(name) for name in names]
        begin = min(entry.offset for entry in offsets) // mmap.PAGESIZE * mmap.PAGESIZE
        end = max(entry.offset + entry.size for entry in offsets)
        if hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED, begin, end - begin)

    def tensors(self, names: Sequence[str] | None = None, *, max_memory: int = DEFAULT_MAX_MEMORY) -> Tensors:
        """The tensors named, or all, each decoded when it is asked for; then raises as `decode`."""
        specs = {name: self.entries[name].spec for name in (self.names if names is None else names)}

        def read(some: Sequence[str]) -> list[np.ndarray]:
            return list(self.decode(some, max_memory=max_memory).values())

        return Tensors(specs, read)

    def checkpoint(self, *, max_memory: int = DEFAULT_MAX_MEMORY) -> Checkpoint:
        """The whole checkpoint, each tensor decoded when it is asked for."""
        return Checkpoint(self.tensors(max_memory=max_memory), self.metadata)


def _check_memory(needed: int, limit: int) -> None:
    if needed > limit:
        raise LimitError(
            f"decoding takes about {needed:,} bytes of memory, more than the limit of {limit:,}; "
            "max_memory (--max-memory) raises it"
        )
