"""The Python interface, named as in safetensors: dictionaries of arrays <-> .dcz, and a file read tensor by tensor."""

import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.container import writer
from dcomp.container.reader import DEFAULT_MAX_MEMORY, Container
from dcomp.errors import CheckpointError, ContainerError, OutputError, nearest
from dcomp.system.files import replacing


class OpenContainer:
    """A .dcz file whose tensors are read one by one. `open` returns it; it is a context manager.

    >>> import dcomp, numpy as np
    >>> dcomp.save_file({"w": np.eye(2)}, "opened.dcz", {"author": "me"})
    >>> with dcomp.open("opened.dcz") as file:
    ...     file.keys(), file.metadata(), file.get_shape("w")
    (['w'], {'author': 'me'}, (2, 2))
    """

    def __init__(self, container: Container) -> None:
        self._container: Container | None = container

    def keys(self) -> list[str]:
        """Return the names of the tensors, in order."""
        return self._open_container().names

    def metadata(self) -> dict[str, str]:
        """Return the checkpoint's metadata."""
        return dict(self._open_container().metadata)

    def get_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one tensor, from the directory.

        Raises:
            CheckpointError: there is no such tensor.
        """
        return self._container_with(name).entries[name].spec.shape

    def get_tensor(self, name: str) -> np.ndarray:
        """Decode one tensor; no other record is read.

        >>> import dcomp, numpy as np
        >>> dcomp.save_file({"a": np.arange(3), "b": np.eye(2)}, "tensors.dcz")
        >>> with dcomp.open("tensors.dcz") as file:
        ...     file.get_tensor("a")
        array([0, 1, 2])

        Raises:
            CheckpointError: there is no such tensor.
            LimitError: decoding would take more memory than allowed.
            ContainerError: the record is damaged.
        """
        return self._container_with(name).decode([name])[name]

    def get_csr(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the elements of one tensor that are not zero, in compressed sparse rows; no dense array is made.

        The rows are those of the tensor's first dimension, the columns all others; a tensor of rank 0 or 1 is one row.
        `torch.sparse_csr_tensor(crow, columns, values, size)` and `scipy.sparse.csr_matrix((values, columns, crow))`
        take them.

        >>> import dcomp, numpy as np
        >>> dcomp.save_file({"w": np.array([[0.0, 2.5, 0.0], [0.0, 0.0, 0.0], [1.5, 0.0, 0.0]])}, "sparse.dcz")
        >>> with dcomp.open("sparse.dcz") as file:
        ...     file.get_csr("w")
        (array([0, 1, 1, 2]), array([1, 0]), array([2.5, 1.5]))

        Returns:
            crow, int64, shape (rows + 1,); columns, int64, shape (kept,), ascending in each row; values, shape (kept,).

        Raises:
            CheckpointError, LimitError, ContainerError: as `get_tensor`.
        """
        return self._container_with(name).csr(name)

    def close(self) -> None:
        """Close the file."""
        self._container = None

    def __enter__(self) -> "OpenContainer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_container(self) -> Container:
        if self._container is None:
            raise ContainerError("the container is closed")
        return self._container

    def _container_with(self, name: str) -> Container:
        """Return the container, or raise CheckpointError where it has no tensor of that name."""
        container = self._open_container()
        if name not in container.entries:
            raise CheckpointError(f"there is no tensor {name!r}; {nearest(name, container.names)}")
        return container


def open(filename: str | os.PathLike[str], *, max_memory: int = DEFAULT_MAX_MEMORY) -> OpenContainer:
    """Open a .dcz file to read single tensors; only its directory is read now.

    >>> import dcomp, numpy as np
    >>> dcomp.save_file({"w": np.eye(2), "b": np.zeros(2)}, "two.dcz")
    >>> with dcomp.open("two.dcz") as file:
    ...     {name: file.get_tensor(name).sum() for name in file.keys()}
    {'w': np.float64(2.0), 'b': np.float64(0.0)}

    Raises:
        ContainerError: not a .dcz file, or a damaged directory.
    """
    return OpenContainer(Container.open(Path(filename), max_memory=max_memory))


def save(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """Encode arrays as the bytes of a .dcz file.

    >>> import dcomp, numpy as np
    >>> data = dcomp.save({"w": np.zeros((100, 100), np.float32)})
    >>> len(data) < 100
    True

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
    """Encode arrays into a .dcz file; an existing one is replaced with `overwrite` only, once the new one is complete.

    >>> import dcomp, numpy as np
    >>> dcomp.save_file({"w": np.eye(2)}, "weights.dcz", {"author": "me"})
    >>> dcomp.save_file({"w": np.eye(3)}, "weights.dcz")
    Traceback (most recent call last):
        ...
    dcomp.errors.OutputError: weights.dcz exists; overwrite=True replaces it, or name another file

    Raises:
        CheckpointError: a dtype that safetensors does not know.
        OutputError: the file exists, or cannot be written.
    """
    check_new(filename, overwrite=overwrite)
    with replacing(Path(filename), force=True) as file:
        writer.write(Checkpoint(dict(tensors), dict(metadata or {})), file)


def check_new(filename: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Raise OutputError where a file of that name exists, unless `overwrite`."""
    if not overwrite and Path(filename).is_file():
        raise OutputError(f"{os.fspath(filename)} exists; overwrite=True replaces it, or name another file")


def load(data: bytes, *, max_memory: int = DEFAULT_MAX_MEMORY) -> dict[str, np.ndarray]:
    """Decode the bytes of a .dcz file; every array equals the one that was saved, bit for bit.

    >>> import dcomp, numpy as np
    >>> dcomp.load(dcomp.save({"w": np.array([0.0, -0.0, 1.5])}))
    {'w': array([ 0. , -0. ,  1.5])}

    Raises:
        LimitError: decoding would take more than `max_memory` bytes.
        ContainerError: not a .dcz file, or a damaged one.
    """
    return Container(data, max_memory=max_memory).decode()


def load_file(filename: str | os.PathLike[str], *, max_memory: int = DEFAULT_MAX_MEMORY) -> dict[str, np.ndarray]:
    """Decode a .dcz file; raise as `load`.

    >>> import dcomp, numpy as np
    >>> dcomp.save_file({"w": np.arange(3)}, "arrays.dcz")
    >>> dcomp.load_file("arrays.dcz")
    {'w': array([0, 1, 2])}
    """
    return Container.open(Path(filename), max_memory=max_memory).decode()
