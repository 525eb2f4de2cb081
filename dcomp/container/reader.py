""".dcz file -> checkpoint, all of it or tensor by tensor."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from zlib import crc32

import numpy as np

from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.checkpoints.dtypes import bit_patterns
from dcomp.checkpoints.tensors import Tensors
from dcomp.coding.decoder import decode_each_tensor, decode_sparse_rows
from dcomp.coding.raw import Raw
from dcomp.coding.record import EncodedTensor
from dcomp.container import layout
from dcomp.container.layout import Entry
from dcomp.errors import ChecksumError, ContainerError, LimitError
from dcomp.system.file_bytes import FileBytes

DEFAULT_MAX_MEMORY = 8 << 30

GROUP_BYTES = 1 << 27
"""Bytes of memory up to which tensors are decoded together."""


class Container:
    """A .dcz file: its directory, which is read at once, and its records, which are read when they are needed."""

    def __init__(self, data: bytes | memoryview | FileBytes, *, max_memory: int = DEFAULT_MAX_MEMORY) -> None:
        """Read the header and the directory of `data`; no method takes much more than `max_memory` bytes.

        Raises:
            LimitError: the directory takes more than `max_memory` bytes.
            ContainerError: they break the format.
        """
        self._data = data if isinstance(data, FileBytes) else memoryview(data)
        self._max_memory = max_memory
        self.nbytes = self._data.nbytes
        header_bytes = layout.header_bytes(self._bytes(0, min(layout.LONGEST_START, self.nbytes)))
        self.directory = layout.read_header(self._bytes(0, min(header_bytes, self.nbytes)), self.nbytes, max_memory)

    @classmethod
    def open(cls, path: Path, *, max_memory: int = DEFAULT_MAX_MEMORY) -> "Container":
        """Open a file; its records are read when they are needed. Raise as the constructor does.

        Raises:
            ContainerError: not a .dcz file, or one that cannot be read.
        """
        file = FileBytes(path, ContainerError)
        if not file.nbytes:
            raise ContainerError(f"cannot read {path}: it is empty")
        try:
            return cls(file, max_memory=max_memory)
        except ContainerError as error:
            if str(path) in str(error):
                raise
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
        """Return the bytes of a tensor's record, or of the record of the tensor that it is tied to."""
        entry = self._entry_with_record(name)
        return self._bytes(entry.offset, entry.size)

    def flags(self, name: str) -> int:
        """Return the first byte of a tensor's record: how it is encoded (FORMAT.md, section 4)."""
        return self._bytes(self._entry_with_record(name).offset, 1)[0]

    def encoded(self, name: str) -> EncodedTensor:
        """Check and parse the record of a tensor, or of the tensor that it is tied to; its streams are not decoded.

        Raises:
            ChecksumError: the record is damaged.
            ContainerError: it breaks the format.
        """
        entry, record = self._entry_with_record(name), self.record(name)
        if crc32(record) != entry.checksum:
            raise ChecksumError(f"tensor {name!r}: its checksum does not match, the file is damaged")
        return EncodedTensor.parse(record, entry.spec.dtype, entry.spec.shape, f"tensor {name!r}")

    def _bytes(self, offset: int, size: int) -> memoryview:
        if isinstance(self._data, FileBytes):
            return self._data.read(offset, size).data
        return self._data[offset : offset + size]

    def records(self, *, max_memory: int | None = None) -> Iterator[dict[str, EncodedTensor]]:
        """Parse the records of all tensors that have one; yield groups that can be decoded together, in order.

        Raises:
            LimitError: decoding one would take more than `max_memory` bytes, by default the limit of the container.
            ContainerError: as `encoded`.
        """
        limit = self._max_memory if max_memory is None else max_memory
        names = [name for name, entry in self.entries.items() if entry.tied_to is None]
        for group in self._groups(names, limit, keep=False):
            for record in group.records.values():
                if isinstance(record, ContainerError):
                    raise record
            yield {name: record for name, record in group.records.items() if isinstance(record, EncodedTensor)}

    def _entry_with_record(self, name: str) -> Entry:
        entry = self.entries[name]
        return self.entries[entry.tied_to] if entry.tied_to is not None else entry

    def decode(self, names: Sequence[str] | None = None, *, max_memory: int | None = None) -> dict[str, np.ndarray]:
        """Decode the tensors named, or all, together.

        Raises:
            LimitError: that would take more than `max_memory` bytes, by default the limit of the container.
            ContainerError: as `encoded`, or damaged streams.
        """
        names = self.names if names is None else names
        limit = self._max_memory if max_memory is None else max_memory
        _check_memory(sum(self.entries[name].spec.nbytes for name in names), limit)
        decoded: dict[str, np.ndarray] = {}
        for name, array in self._decode_each(names, limit, keep=True):
            if isinstance(array, ContainerError):
                raise array
            decoded[name] = array
        return decoded

    def decode_each(
        self, names: Sequence[str] | None = None, *, max_memory: int | None = None
    ) -> Iterator[tuple[str, np.ndarray | ContainerError]]:
        """Decode the tensors named, or all; yield each, or its error, in order.

        Raises:
            LimitError: one takes more than `max_memory` bytes, by default the limit of the container.
        """
        limit = self._max_memory if max_memory is None else max_memory
        yield from self._decode_each(self.names if names is None else names, limit, keep=False)

    def _decode_each(
        self, names: Sequence[str], limit: int, *, keep: bool
    ) -> Iterator[tuple[str, np.ndarray | ContainerError]]:
        for group in self._groups(names, limit, keep=keep):
            parsed = [record for record in group.records.values() if isinstance(record, EncodedTensor)]
            arrays = decode_each_tensor(parsed)
            uses = Counter(self._entry_with_record(name).name for name in group.names)
            decoded: dict[str, np.ndarray | ContainerError] = {}  # by record, until its last use
            for name in group.names:
                owner = self._entry_with_record(name).name
                record = group.records[owner]
                if owner not in decoded:
                    decoded[owner] = next(arrays) if isinstance(record, EncodedTensor) else record
                uses[owner] -= 1
                array = decoded[owner] if uses[owner] else decoded.pop(owner)
                yield name, self._as_tensor(name, array, copy=owner in decoded)

    def _groups(self, names: Sequence[str], limit: int, *, keep: bool) -> Iterator["_Group"]:
        """Divide tensors into groups that are decoded together and fit in memory.

        If the caller keeps the arrays of earlier groups, these count towards the limit.
        """
        group = _Group(self.directory.memory)
        for name in names:
            owner, copy_bytes = self._entry_with_record(name).name, self.entries[name].spec.nbytes
            if owner in group.records and group.memory + copy_bytes <= min(limit, GROUP_BYTES):
                group.add(name, copy_bytes)
                continue
            record = self._encoded_or_error(name)
            memory = record.memory if isinstance(record, EncodedTensor) else 0
            if group.names and group.memory + memory > min(limit, GROUP_BYTES):
                yield group
                limit -= sum(self.entries[done].spec.nbytes for done in group.names) if keep else 0
                group = _Group(self.directory.memory)
            group.add(name, memory)
            _check_memory(group.memory, limit)
            group.records.setdefault(owner, record)
        if group.names:
            yield group

    def _encoded_or_error(self, name: str) -> EncodedTensor | ContainerError:
        try:
            return self.encoded(name)
        except ContainerError as error:
            return error.with_traceback(None)  # a traceback would keep the record in memory

    def _as_tensor(self, name: str, array: np.ndarray | ContainerError, *, copy: bool) -> np.ndarray | ContainerError:
        """Return the array of a record, or a copy, in the dtype and shape of one of the tensors with that record."""
        if isinstance(array, ContainerError):
            return array
        entry = self.entries[name]
        array = array.copy() if copy else array
        if entry.tied_to is None:
            return array
        return array.reshape(-1).view(np.uint8).view(entry.spec.dtype).reshape(entry.spec.shape)

    def csr(self, name: str, *, max_memory: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Decode a tensor's kept elements as row starts, columns and values; raise as `decode`."""
        limit = self._max_memory if max_memory is None else max_memory
        entry = self.entries[name]
        encoded, memory = self.encoded(name), self.directory.memory
        if entry.tied_to is not None and entry.spec != self.entries[entry.tied_to].spec:  # other rows than the record's
            dense = self.decode([name], max_memory=limit)[name]
            encoded = EncodedTensor(entry.spec.dtype, entry.spec.shape, None, Raw(bit_patterns(dense)))
            memory += dense.nbytes
        _check_memory(memory + encoded.sparse_rows_memory, limit)
        return decode_sparse_rows(encoded)

    def tensors(self, names: Sequence[str] | None = None, *, max_memory: int | None = None) -> Tensors:
        """Return the tensors named, or all, each decoded when it is read; reading raises as `decode`."""
        specs = {name: self.entries[name].spec for name in (self.names if names is None else names)}

        def read(names: Sequence[str]) -> list[np.ndarray]:
            return list(self.decode(names, max_memory=max_memory).values())

        return Tensors(specs, read)

    def checkpoint(self, *, max_memory: int | None = None) -> Checkpoint:
        """Return the checkpoint; each tensor is decoded when it is read."""
        return Checkpoint(self.tensors(max_memory=max_memory), self.metadata)


@dataclass
class _Group:
    """Tensors that are decoded together.

    Attributes:
        memory: about how many bytes decoding takes, the directory included.
        names: of the tensors, in order.
        records: parsed, or their errors, by the name of the tensor that has them.
    """

    memory: int
    names: list[str] = field(default_factory=list)
    records: dict[str, EncodedTensor | ContainerError] = field(default_factory=dict)

    def add(self, name: str, memory: int) -> None:
        """Add a tensor, and the bytes that decoding it takes."""
        self.names.append(name)
        self.memory += memory


def _check_memory(needed: int, limit: int) -> None:
    if needed > limit:
        raise LimitError(
            f"decoding takes about {needed:,} bytes of memory, more than the limit of {limit:,}; "
            "max_memory (--max-memory) raises it"
        )
