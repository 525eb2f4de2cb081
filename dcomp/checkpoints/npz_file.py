"""numpy's .npz files: a zip file with an array in numpy's .npy format for each tensor. Pickled objects are refused."""

import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from numpy.lib import format as npy

from dcomp.checkpoints import dtypes, tensors
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.checkpoints.tensors import Spec, Tensors
from dcomp.errors import CheckpointError, first_line

ARRAY_SUFFIX = ".npy"
"""End of the names of the arrays in the zip file."""

HEADER_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
"""Readers of an array's header, by the version of its format; later versions are for records."""


def load_file(path: Path, *, max_memory: int) -> Checkpoint:
    """Open an .npz file; an array is read when it is indexed, and its bytes are little-endian.

    Args:
        path: of the file.
        max_memory: bytes that compressed arrays may take when they are unpacked.

    Raises:
        CheckpointError: it is damaged or too large, holds Python objects, or a dtype that safetensors does not know.
    """
    archive = _opened(path, max_memory)
    specs: dict[str, Spec] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(ARRAY_SUFFIX)
        if name in specs or name == info.filename:
            problem = "twice" if name in specs else "which is no array"
            raise CheckpointError(f"{path} is not a readable .npz file: it holds {info.filename!r} {problem}")
        with _reading(path, name), archive.open(info) as member:
            specs[name] = _read_spec(member, info, name)
    if not specs:
        raise CheckpointError(f"{path} holds no arrays")

    def read(names: Sequence[str]) -> list[np.ndarray]:
        return [_read(archive, path, name, specs[name]) for name in names]

    return Checkpoint(Tensors(specs, read))


def _opened(path: Path, max_memory: int) -> zipfile.ZipFile:
    """Open the zip file, and check the sizes of its parts."""
    with _reading(path):
        archive = zipfile.ZipFile(path)
    infos = archive.infolist()
    unpacked = sum(info.file_size for info in infos if info.compress_type != zipfile.ZIP_STORED)
    if unpacked > max_memory:
        raise CheckpointError(
            f"{path} unpacks to {unpacked:,} bytes, more than the limit of {max_memory:,}; save it with numpy.savez"
        )
    if sum(info.compress_size for info in infos) > path.stat().st_size:
        raise CheckpointError(f"{path} is not a readable .npz file: its arrays overlap")
    return archive


@contextmanager
def _reading(path: Path, name: str = "") -> Iterator[None]:
    """Raise CheckpointError for any error of the libraries in a block that reads the file, or one array of it."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # both libraries may raise anything at damaged files
        place = f"{name!r}: " if name else ""
        raise CheckpointError(f"{path} is not a readable .npz file: {place}{first_line(error)}") from error


def _read_spec(member: IO[bytes], info: zipfile.ZipInfo, name: str) -> Spec:
    """Read the dtype and shape of an array, and check that its elements are as many bytes as the file says.

    Raises:
        CheckpointError: no checkpoint holds such a dtype.
        ValueError: another header, or another number of bytes.
    """
    version = npy.read_magic(member)
    if version not in HEADER_READERS:
        raise ValueError(f"version {version} of numpy's format is for records")
    shape, _, dtype = HEADER_READERS[version](member)
    dtype = dtype.newbyteorder("=")
    if dtype.hasobject:
        raise CheckpointError(f"array {name!r} holds Python objects, which can run code when read; save plain arrays")
    if dtype not in dtypes.NAME_OF:
        raise CheckpointError(f"array {name!r} has dtype {dtype}, which safetensors does not know")
    if any(size < 0 for size in shape):
        raise ValueError(f"it has the shape {shape}")
    spec = Spec(dtype, tuple(shape))
    if info.file_size - member.tell() != spec.nbytes:
        raise ValueError(f"it has {info.file_size - member.tell():,} bytes in place of {spec.nbytes:,}")
    return spec


def _read(archive: zipfile.ZipFile, path: Path, name: str, spec: Spec) -> np.ndarray:
    with _reading(path, name), archive.open(name + ARRAY_SUFFIX) as member:
        array = npy.read_array(member, allow_pickle=False)
    return array.astype(spec.dtype, copy=False)  # from big-endian bytes


def save(checkpoint: Checkpoint, stream: BinaryIO, on_tensor: Callable[[int], object] = lambda nbytes: None) -> None:
    """Write the tensors as `numpy.savez` does, one after the other; the same tensors give the same bytes.

    Args:
        checkpoint: its metadata are left out.
        stream: the file.
        on_tensor: called with the bytes of each tensor after it is written.

    Raises:
        CheckpointError: numpy has no dtype of its own for a tensor, or a zip file cannot hold its name.
    """
    for name, spec in tensors.specs_of(checkpoint.tensors).items():
        if spec.dtype.kind not in "biufc":  # those of ml_dtypes
            raise CheckpointError(
                f"numpy has no dtype for tensor {name!r}, which is {dtypes.NAME_OF.get(spec.dtype, spec.dtype)}: name "
                "the output .safetensors or .pth"
            )
        if zipfile.ZipInfo(name + ARRAY_SUFFIX).filename != name + ARRAY_SUFFIX or not tensors.is_text(name):
            raise CheckpointError(f"no .npz file can hold the name {name!r}: name the output .safetensors or .pth")
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in tensors.stream(checkpoint.tensors):
            with archive.open(zipfile.ZipInfo(name + ARRAY_SUFFIX), "w", force_zip64=True) as member:
                npy.write_array(member, array, allow_pickle=False)
            on_tensor(array.nbytes)
