"""Arrays <-> tensors, bit for bit, for every dtype that both sides have."""

from collections.abc import Mapping

import numpy as np
import torch

from dcomp.checkpoints import dtypes
from dcomp.checkpoints.tensors import Spec, Tensors
from dcomp.errors import CheckpointError

TORCH_DTYPE: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "U16": torch.uint16,
    "I16": torch.int16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
} | ({"F8_E8M0": torch.float8_e8m0fnu} if hasattr(torch, "float8_e8m0fnu") else {})  # since torch 2.7

NAME_OF = {dtype: name for name, dtype in TORCH_DTYPE.items()}


def to_torch(array: np.ndarray) -> torch.Tensor:
    """Return a tensor with a copy of the array's bits.

    Raises:
        CheckpointError: this torch has no such dtype.
    """
    name = dtypes.NAME_OF.get(array.dtype, str(array.dtype))
    if name not in TORCH_DTYPE:
        raise CheckpointError(f"torch {torch.__version__} has no dtype {name}")
    raw = np.array(array, order="C").reshape(-1).view(np.uint8)
    return torch.from_numpy(raw).view(TORCH_DTYPE[name]).reshape(array.shape)


def numpy_dtype(tensor: torch.Tensor, name: str) -> np.dtype:
    """Return the dtype of the array that holds a tensor's bits.

    Raises:
        CheckpointError: safetensors has no such tensors; `name` is in the message.
    """
    if problem := _problem(tensor):
        raise CheckpointError(f"tensor {name!r} {problem}")
    return dtypes.BY_NAME[NAME_OF[tensor.dtype]]


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Return an array with a copy of the tensor's elements.

    Raises:
        CheckpointError: safetensors has no such tensors.
    """
    if problem := _problem(tensor):
        raise CheckpointError(f"a tensor {problem}")
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    flat = plain.as_strided((plain.numel(),), (1,)).view(torch.uint8)  # one element may have any stride
    raw = flat.clone() if flat.data_ptr() == tensor.data_ptr() else flat
    try:
        return raw.numpy().view(dtypes.BY_NAME[NAME_OF[tensor.dtype]]).reshape(tuple(tensor.shape))
    except ValueError as error:
        raise CheckpointError(f"a tensor has a shape that numpy does not take: {error}") from error


def tensor_specs(tensors: Mapping[str, torch.Tensor]) -> dict[str, Spec]:
    """Return dtype and shape of the arrays that hold the tensors' elements.

    Raises:
        CheckpointError: safetensors has no such tensors.
    """
    return {name: Spec(numpy_dtype(tensor, name), tuple(tensor.shape)) for name, tensor in tensors.items()}


def lazy_arrays(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Return arrays with copies of the tensors' elements, each made when it is indexed.

    Raises:
        CheckpointError: safetensors has no such tensors.
    """
    return Tensors(tensor_specs(tensors), lambda names: [to_numpy(tensors[name]) for name in names])


def to_arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Return arrays with copies of the tensors' elements.

    Raises:
        CheckpointError: a value that is no tensor, or one that safetensors does not have; before any is copied.
    """
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise CheckpointError(f"{name!r} is a {type(tensor).__name__}, not a tensor; save tensors only")
        numpy_dtype(tensor, name)
    return {name: to_numpy(tensor) for name, tensor in tensors.items()}


def _problem(tensor: torch.Tensor) -> str | None:
    """Return why a tensor is no plain array of a dtype that safetensors has; None if it is one."""
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return f"is a {type(tensor).__name__}, which is more than its elements; save a plain tensor"
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        return "is sparse, nested or quantized by torch, which safetensors does not know; save it dense"
    if tensor.is_meta:
        return "has a shape and no data: it is on the meta device"
    if tensor.dtype not in NAME_OF:
        return f"has dtype {tensor.dtype}, which safetensors does not know"
    if any(size < 0 for size in tensor.shape):  # which torch may read beside a 0
        return f"has the shape {tuple(tensor.shape)}"
    return None
