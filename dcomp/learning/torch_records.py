"""The data in files that torch wrote: read by torch, checked, and left on the disk where possible.

A zip file is first checked by the standard library. `torch.load` then reads every record, as it does without `mmap`.
Where the bytes that it read stand uncompressed in the file, their memory is freed, and they are read again when a
tensor is indexed.
"""

import mmap
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import torch

from dcomp.checkpoints import dtypes
from dcomp.errors import CheckpointError
from dcomp.learning.conversion import NAME_OF, to_numpy
from dcomp.system.file_bytes import FileBytes

LOCAL_HEADER = 30
"""Bytes of a zip record's header before its name and its extra field; its last two fields are their sizes."""

BIG_ENDIAN = 3, crc32(b"big")
"""Size and checksum of the record that names the order of bytes, where that is big-endian."""

IS_FOLDER = 0x10
"""Bit of a record's attributes; torch reads no bytes of a folder."""

COMPARED_BYTES = 1 << 22
"""Bytes of memory and file that are compared at a time."""

Span = tuple[int, int]
"""Address and size of memory."""


class Storages:
    """The storages that torch has read: its `map_location` gives them here."""

    def __init__(self) -> None:
        """Begin with none."""
        self._placed: list[tuple[torch.UntypedStorage, Span]] = []

    def place(self, storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage:
        """Keep a storage, on the CPU; its location in the file is ignored."""
        self._placed.append((storage, _span(storage)))
        return storage

    def check(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Raise CheckpointError for tensors of unknown storages, or of one that grew: the file lacks their data."""
        spans = {span for storage, span in self._placed if _span(storage) == span}
        for name, tensor in tensors.items():
            if tensor.untyped_storage().nbytes() and _span(tensor.untyped_storage()) not in spans:
                raise CheckpointError(f"tensor {name!r} has elements that are not in the file")
        self._placed.clear()

    def read(self, tensor: torch.Tensor) -> np.ndarray:
        """Read the elements of a tensor."""
        return to_numpy(tensor)


class Filled(Storages):
    """Storages of the older format, where pickles and data follow each other: filled before torch reads their data."""

    def __init__(self, path: Path, filling: int) -> None:
        """Fill all memory with a byte."""
        super().__init__()
        self._path = path
        self._bytes_left = path.stat().st_size
        self._filling = filling

    def place(self, storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage:
        """Fill a storage.

        Raises:
            CheckpointError: it has more bytes than the file.
        """
        self._bytes_left -= storage.nbytes()
        if self._bytes_left < 0:
            raise CheckpointError(
                f"the tensors of {self._path} take {-self._bytes_left:,} bytes more than the file has"
            )
        _bytes_view(storage).fill(self._filling)
        return super().place(storage, location)

    def checksums(self) -> list[int]:
        """Return the CRC-32 of each storage; without data in the file it depends on the filling."""
        return [crc32(_bytes_view(storage).data) for storage, _ in self._placed]


class Records(Storages):
    """The records of a zip file, and tensors that stay in it."""

    def __init__(self, path: Path, max_memory: int) -> None:
        """Check every record, and note where those that are not compressed stand.

        Raises:
            CheckpointError: a record that is damaged, or that would take more than `max_memory` bytes unpacked.
            Exception: any other error of the standard library at a damaged file.
        """
        super().__init__()
        self._file = FileBytes(path, CheckpointError)
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            _check_records(archive, infos, path, max_memory)
        sums = {(info.file_size, info.CRC) for info in infos}
        # torch swaps the bytes of big-endian files, so that their checksums differ.
        self._sums = sums if _has_checksums(infos) and BIG_ENDIAN not in sums else None
        self._offsets = {
            (info.file_size, info.CRC): self._data_offset(info)
            for info in infos
            if info.compress_type == zipfile.ZIP_STORED and info.file_size
        }
        # Its addresses are places in the file: hardly any pickle reads its bytes.
        mapped = mmap.mmap(self._file.fileno(), self._file.nbytes, access=mmap.ACCESS_COPY)
        self._mapped = torch.frombuffer(mapped, dtype=torch.uint8).untyped_storage()

    def place(self, storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage:
        """Take a storage that torch has read, or the same bytes in the file."""
        return super().place(self._in_file(storage), location)

    def _in_file(self, storage: torch.UntypedStorage) -> torch.UntypedStorage:
        """Return the same bytes in the file, or the storage itself where the file has no plain copy of them.

        Raises:
            CheckpointError: the bytes are in no record.
        """
        data = _bytes_view(storage)
        key = data.size, crc32(data.data)
        if data.size and self._sums is not None and key not in self._sums:
            raise CheckpointError(
                f"{self._file.path} is damaged: torch reads bytes from it that are in none of its records"
            )
        offset = self._offsets.get(key)
        if offset is None:
            return storage
        for begin in range(0, data.size, COMPARED_BYTES):
            piece = data[begin : begin + COMPARED_BYTES]
            if not np.array_equal(piece, self._file.read(offset + begin, piece.size)):
                return storage
        return self._mapped[offset : offset + data.size]

    def read(self, tensor: torch.Tensor) -> np.ndarray:
        """Read the elements of a tensor, from memory or from the file.

        Raises:
            CheckpointError: the file was cut meanwhile.
        """
        offset = tensor.data_ptr() - self._mapped.data_ptr()
        if not tensor.numel() or not 0 <= offset < self._file.nbytes:
            return to_numpy(tensor)
        if tensor.is_contiguous() and not tensor.is_conj() and not tensor.is_neg():
            dtype = dtypes.BY_NAME[NAME_OF[tensor.dtype]]
            return self._file.read(offset, tensor.nbytes).view(dtype).reshape(tuple(tensor.shape))
        last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        span = torch.from_numpy(self._file.read(offset, (last + 1) * tensor.element_size()).copy())
        loaded = span.view(tensor.dtype).as_strided(tensor.shape, tensor.stride())
        loaded = loaded.conj() if tensor.is_conj() else loaded
        return to_numpy(-loaded if tensor.is_neg() else loaded)

    def _data_offset(self, info: zipfile.ZipInfo) -> int:
        """Return where the data of a record begin in the file."""
        sizes = self._file.read(info.header_offset + LOCAL_HEADER - 4, 4).view("<u2")
        return info.header_offset + LOCAL_HEADER + int(sizes.sum())


def _span(storage: torch.UntypedStorage) -> Span:
    return storage.data_ptr(), storage.nbytes()


def _bytes_view(storage: torch.UntypedStorage) -> np.ndarray:
    return torch.empty(0, dtype=torch.uint8).set_(storage).numpy()


def _has_checksums(infos: Sequence[zipfile.ZipInfo]) -> bool:
    return any(info.CRC for info in infos)  # torch.serialization.set_crc32_options(False) leaves them out


def _check_records(archive: zipfile.ZipFile, infos: Sequence[zipfile.ZipInfo], path: Path, max_memory: int) -> None:
    packed = [info for info in infos if info.compress_type != zipfile.ZIP_STORED]
    unpacked_bytes = sum(info.file_size for info in packed)
    if unpacked_bytes > max_memory:
        raise CheckpointError(
            f"{path} unpacks to {unpacked_bytes:,} bytes, more than the limit of {max_memory:,}; save it uncompressed"
        )
    if sum(info.compress_size for info in infos) > path.stat().st_size:
        raise CheckpointError(f"{path} is not a readable torch checkpoint: its records overlap")
    if any(info.file_size != info.compress_size for info in infos if info.compress_type == zipfile.ZIP_STORED):
        raise CheckpointError(f"{path} is not a readable torch checkpoint: a record has two sizes")
    if any(info.file_size and info.external_attr & IS_FOLDER for info in infos):
        raise CheckpointError(f"{path} is not a readable torch checkpoint: a record of it is called a folder")
    if _has_checksums(infos) and (damaged := archive.testzip()) is not None:
        raise CheckpointError(f"{path} is not a readable torch checkpoint: the record {damaged!r} is damaged")
