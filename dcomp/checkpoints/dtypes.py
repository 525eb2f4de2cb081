"""The element types of a checkpoint: safetensors' names for them and numpy's dtypes.

`ml_dtypes` supplies the ones that numpy lacks. safetensors' 4- and 6-bit floats (F4, F6_*) pack
elements across bytes and have no dtype in numpy; they are not in the table, and are refused.
"""

import ml_dtypes
import numpy as np

BY_NAME: dict[str, np.dtype] = {
    name: np.dtype(scalar)
    for name, scalar in {
        "BOOL": np.bool_,
        "U8": np.uint8,
        "I8": np.int8,
        "U16": np.uint16,
        "I16": np.int16,
        "U32": np.uint32,
        "I32": np.int32,
        "U64": np.uint64,
        "I64": np.int64,
        "F16": np.float16,
        "BF16": ml_dtypes.bfloat16,
        "F32": np.float32,
        "F64": np.float64,
        "C64": np.complex64,
        "F8_E4M3": ml_dtypes.float8_e4m3fn,
        "F8_E5M2": ml_dtypes.float8_e5m2,
        "F8_E8M0": ml_dtypes.float8_e8m0fnu,
        "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
        "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    }.items()
}

NAME_OF: dict[np.dtype, str] = {dtype: name for name, dtype in BY_NAME.items()}


SIGNED_ZERO = ("F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2")
"""The dtypes that have a -0.0: the pattern whose only bit is the sign."""

COUNTED = 1 << 17
"""Number of elements that are counted at a time."""


def magnitude_bits(dtype: np.dtype) -> int:
    """Return a mask of bits: an element is zero, or -0.0, exactly if none of these bits is set in it."""
    bits = (1 << 8 * dtype.itemsize) - 1
    if dtype.kind == "c":
        return 0x7FFFFFFF7FFFFFFF
    return bits >> 1 if NAME_OF.get(dtype) in SIGNED_ZERO else bits


def not_zero(patterns: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return from bit patterns whether each element is not zero; -0.0 is zero. bool, shape (n,)."""
    return patterns & patterns.dtype.type(magnitude_bits(dtype)) != 0


def count_not_zero(array: np.ndarray) -> int:
    """Return how many elements of an array are not zero; -0.0 is zero."""
    patterns = bit_patterns(array)
    parts = (patterns[begin : begin + COUNTED] for begin in range(0, patterns.size, COUNTED))
    return sum(int(np.count_nonzero(not_zero(part, array.dtype))) for part in parts)


def bit_patterns(array: np.ndarray) -> np.ndarray:
    """View an array as flat, row-major unsigned integers with the bits of its elements.

    Two elements are equal to the codec exactly if these integers are equal: -0.0 differs from 0.0, and a NaN keeps its
    payload. A contiguous array is viewed, not copied.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.dtype(f"u{array.dtype.itemsize}"))
