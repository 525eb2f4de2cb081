""".dcz file -> checkpoint, whole or tensor by tensor."""

from collections import Counter
from collections.abc import Iterator, Sequence
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

TOGETHER = 1 << 27
"""Bytes of memory up to which tensors are decoded together."""


class Container:
    """A .dcz file's directory, read and checked, and its records, read when asked for."""

    def __init__(self, data: bytes | memoryview | FileBytes, *, max_memory: int = DEFAULT_MAX_MEMORY) -> None:
        """Read the header and directory of `data`; neither that nor any method takes much more than `max_memory` bytes.

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
        """Open a file, whose records are read when they are asked for; raise as for its bytes.

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
        """The record of a tensor, or of the one that it is tied to, as it stands in the file."""
        entry = self._entry_with_record(name)
        return self._bytes(entry.offset, entry.size)

    def flags(self, name: str) -> int:
        """The first byte of a tensor's record: how it is encoded (FORMAT.md, section 4)."""
        return self._bytes(self._entry_with_record(name).offset, 1)[0]

    def encoded(self, name: str) -> EncodedTensor:
        """The record of a tensor, or of the one that it is tied to, checked and parsed, not decoded.

        Raises:
            ChecksumError, ContainerError: it is damaged, or breaks the format.
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
        """Parse the records of all tensors that have one, some at a time, to be decoded together; give them in order.

        Raises:
            LimitError: decoding one would take more than `max_memory` bytes, by default those given to the container.
            ContainerError: as `encoded`.
        """
        limit = self._max_memory if max_memory is None else max_memory
        names = [name for name, entry in self.entries.items() if entry.tied_to is None]
        for _, records in self._groups(names, limit, keep=False):
            for record in records.values():
                if isinstance(record, ContainerError):
                    raise record
            yield {name: record for name, record in records.items() if isinstance(record, EncodedTensor)}

    def _entry_with_record(self, name: str) -> Entry:
        entry = self.entries[name]
        return self.entries[entry.tied_to] if entry.tied_to is not None else entry

    def decode(self, names: Sequence[str] | None = None, *, max_memory: int | None = None) -> dict[str, np.ndarray]:
        """Decode the tensors named, or all, together.

        Raises:
            LimitError: that would take more than `max_memory` bytes, by default those given to the container.
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
        """Decode the tensors named, or all, some at a time, and give each, or what is wrong with it, in order.

        Raises:
            LimitError: one takes more than `max_memory` bytes, by default those given to the container.
        """
        limit = self._max_memory if max_memory is None else max_memory
        yield from self._decode_each(self.names if names is None else names, limit, keep=False)

    def _decode_each(
        self, names: Sequence[str], limit: int, *, keep: bool
    ) -> Iterator[tuple[str, np.ndarray | ContainerError]]:
        for group, records in self._groups(names, limit, keep=keep):
            arrays = decode_each_tensor([one for one in records.values() if isinstance(one, EncodedTensor)])
            waiting = Counter(self._entry_with_record(name).name for name in group)
            shared: dict[str, np.ndarray | ContainerError] = {}  # of records that other tensors of the group wait for
            for name in group:
                record = self._entry_with_record(name).name
                one = records[record]
                if record not in shared:
                    shared[record] = next(arrays) if isinstance(one, EncodedTensor) else one
                waiting[record] -= 1
                array = shared[record] if waiting[record] else shared.pop(record)
                yield name, self._own(name, array, copy=record in shared)

    def _groups(
        self, names: Sequence[str], limit: int, *, keep: bool
    ) -> Iterator[tuple[list[str], dict[str, EncodedTensor | ContainerError]]]:
        """Names of tensors that are decoded together, and their records: many, but no more than fit in memory.

        If the caller keeps the arrays of earlier groups, they count in the limit.
        """
        group: list[str] = []
        records: dict[str, EncodedTensor | ContainerError] = {}
        needed = self.directory.memory
        for name in names:
            record, own = self._entry_with_record(name).name, self.entries[name].spec.nbytes
            if record not in records or needed + own > min(limit, TOGETHER):
                one = self._encoded_or_error(name)
                own = one.memory if isinstance(one, EncodedTensor) else 0
            if group and needed + own > min(limit, TOGETHER):
                yield group, records
                limit -= sum(self.entries[done].spec.nbytes for done in group) if keep else 0
                group, records, needed = [], {}, self.directory.memory
            needed += own
            _check_memory(needed, limit)
            group.append(name)
            records.setdefault(record, one)  # a tensor tied to one of the group has its record
        if group:
            yield group, records

    def _encoded_or_error(self, name: str) -> EncodedTensor | ContainerError:
        try:
            return self.encoded(name)
        except ContainerError as error:
            return error.with_traceback(None)  # which would hold what was parsed

    def _own(self, name: str, array: np.ndarray | ContainerError, *, copy: bool) -> np.ndarray | ContainerError:
        """The array of a record, or a copy, in the dtype and shape that a tied tensor has of its own; or its error."""
        if isinstance(array, ContainerError):
            return array
        entry = self.entries[name]
        array = array.copy() if copy else array
        if entry.tied_to is None:
            return array
        return array.reshape(-1).view(np.uint8).view(entry.spec.dtype).reshape(entry.spec.shape)

    def csr(self, name: str, *, max_memory: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A tensor's kept elements as row starts, columns and values; raises as `decode`."""
        limit = self._max_memory if max_memory is None else max_memory
        entry = self.entries[name]
        encoded, held = self.encoded(name), self.directory.memory
        if entry.tied_to is not None and entry.spec != self.entries[entry.tied_to].spec:  # other rows than the record's
            dense = self.decode([name], max_memory=limit)[name]
            encoded = EncodedTensor(entry.spec.dtype, entry.spec.shape, None, Raw(bit_patterns(dense)))
            held += dense.nbytes
        _check_memory(held + encoded.sparse_rows_memory, limit)
        return decode_sparse_rows(encoded)

    def tensors(self, names: Sequence[str] | None = None, *, max_memory: int | None = None) -> Tensors:
        """The tensors named, or all, each decoded when it is asked for; then raises as `decode`."""
        specs = {name: self.entries[name].spec for name in (self.names if names is None else names)}

        def read(some: Sequence[str]) -> list[np.ndarray]:
            return list(self.decode(some, max_memory=max_memory).values())

        return Tensors(specs, read)

    def checkpoint(self, *, max_memory: int | None = None) -> Checkpoint:
        """The whole checkpoint, each tensor decoded when it is asked for."""
        return Checkpoint(self.tensors(max_memory=max_memory), self.metadata)


def _check_memory(needed: int, limit: int) -> None:
    if needed > limit:
        raise LimitError(
            f"decoding takes about {needed:,} bytes of memory, more than the limit of {limit:,}; "
            "max_memory (--max-memory) raises it"
        )
