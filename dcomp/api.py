"""The Python interface, named as in safetensors: dictionaries of arrays <-> .dcz, and a file read tensor by tensor."""

import difflib
import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.container import writer
from dcomp.container.reader import DEFAULT_MAX_MEMORY, Container
from dcomp.errors import CheckpointError, ContainerError, OutputError
from dcomp.system.files import replacing


class OpenContainer:
    """A .dcz file whose tensors are read one by one; made by `open`, and a context manager."""

    def __init__(self, container: Container) -> None:
        self._opened: Container | None = container

    @property
    def _container(self) -> Container:
        if self._opened is None:
            raise ContainerError("the container is closed")
        return self._opened

    def keys(self) -> list[str]:
        """Names of the tensors, in order."""
        return self._container.names

    def metadata(self) -> dict[str, str]:
        """The checkpoint's metadata."""
        return dict(self._container.metadata)

    def get_shape(self, name: str) -> tuple[int, ...]:
        """The shape of one tensor, from the directory.

        Raises:
            CheckpointError: there is no such tensor.
        """
        self._check(name)
        return self._container.entries[name].spec.shape

    def get_tensor(self, name: str) -> np.ndarray:
        """Decode one tensor; no other record is read.

        Raises:
            CheckpointError: there is no such tensor.
            LimitError: decoding would take more memory than allowed.
            ContainerError: the record is damaged.
        """
        self._check(name)
        return self._container.decode([name])[name]

    def get_csr(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The kept elements of one tensor, in compressed sparse rows, without making the dense array.

        The rows are those of the tensor's first dimension, the columns all others; a tensor of rank 0 or 1 is one row.
        `torch.sparse_csr_tensor(crow, columns, values, size)` and `scipy.sparse.csr_matrix((values, columns, crow))`
        take them.

        Returns:
            crow, int64, shape (rows + 1,); columns, int64, shape (kept,), ascending in each row; values, shape (kept,).

        Raises:
            As `get_tensor`.
        """
        self._check(name)
        return self._container.csr(name)

    def _check(self, name: str) -> None:
        if name not in self._container.entries:
            near = difflib.get_close_matches(name, self._container.names, n=3, cutoff=0) or ["none"]
            raise CheckpointError(f"there is no tensor {name!r}; the names nearest to it are {', '.join(near)}")

    def __enter__(self) -> "OpenContainer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._opened = None


def open(filename: str | os.PathLike[str], *, max_memory: int = DEFAULT_MAX_MEMORY) -> OpenContainer:
    """Open a .dcz file to read single tensors; only its directory is read now.

    Raises:
        ContainerError: not a .dcz file, or a damaged directory.
    """
    return OpenContainer(Container.open(Path(filename), max_memory=max_memory))


def save(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """Encode arrays as the bytes of a .dcz file.

    Raises:
        CheckpointError: a dtype that safetensors does not know.
    """
    buffer = io.BytesIO()
    writer.write(Checkpoint(dict(tensors), dict(metadata or {})), buffer)
    return buffer.getvalue()


def save_file(
    tensors: Mapping[str, np.ndarray],
    filename: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Encode arrays into a .dcz file; one that exists is replaced with `overwrite` only, once the new one is complete.

    Raises:
        CheckpointError: a dtype that safetensors does not know.
        OutputError: the file exists, or cannot be written.
    """
    check_new(filename, overwrite=overwrite)
    with replacing(Path(filename), force=True) as file:
        writer.write(Checkpoint(dict(tensors), dict(metadata or {})), file)


def check_new(filename: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Raise OutputError if there is a file of that name, and it must not be replaced."""
    if not overwrite and Path(filename).is_file():
        raise OutputError(f"{os.fspath(filename)} exists; overwrite=True replaces it, or name another file")


def load(data: bytes, *, max_memory: int = DEFAULT_MAX_MEMORY) -> dict[str, np.ndarray]:
    """Decode the bytes of a .dcz file; the arrays equal, bit for bit, those saved.

    Raises:
        LimitError: decoding would take more than `max_memory` bytes.
        ContainerError: not a .dcz file, or a damaged one.
    """
    return Container(data, max_memory=max_memory).decode()


def load_file(filename: str | os.PathLike[str], *, max_memory: int = DEFAULT_MAX_MEMORY) -> dict[str, np.ndarray]:
    """Decode a .dcz file; raises as `load`."""
    return Container.open(Path(filename), max_memory=max_memory).decode()
