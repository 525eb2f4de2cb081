"""EncodedTensor -> array: all streams of many tensors are decoded in lock step (FORMAT.md, section 5)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dcomp.coding import density, lockstep
from dcomp.coding.record import EncodedTensor, matrix_of
from dcomp.coding.values import Symbols
from dcomp.errors import ContainerError


def decode_tensors(tensors: Sequence[EncodedTensor]) -> list[np.ndarray]:
    """Decode tensors together, bit for bit as they were encoded.

    Raises:
        ContainerError: damaged streams.
    """
    arrays = []
    for array in decode_each_tensor(tensors):
        if isinstance(array, ContainerError):
            raise array
        arrays.append(array)
    return arrays


def decode_each_tensor(tensors: Sequence[EncodedTensor]) -> Iterator[np.ndarray | ContainerError]:
    """Decode tensors together; yield each in order, or a ContainerError if its streams are damaged."""
    for tensor, decoded in zip(tensors, _decode_streams(tensors), strict=True):
        try:
            yield decoded if isinstance(decoded, ContainerError) else tensor.assemble(*decoded)
        except ContainerError as error:
            yield error.with_traceback(None)


def decode_sparse_rows(tensor: EncodedTensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decode the kept elements of a tensor in compressed sparse rows, straight from its streams.

    Returns:
        row starts, int64, shape (rows + 1,); columns, int64, and values, shape (kept,), row by row.

    Raises:
        ContainerError: damaged streams.
    """
    (decoded,) = _decode_streams([tensor])
    if isinstance(decoded, ContainerError):
        raise decoded
    kept_positions, symbols = decoded
    patterns = tensor.values.patterns(symbols)
    rows, columns = matrix_of(tensor.shape, columns_first=False)
    if kept_positions is None:
        kept_positions = np.flatnonzero(patterns)
        patterns = patterns[kept_positions]
    places = _row_major(tensor, kept_positions)
    if tensor.columns_first or (tensor.index is not None and tensor.index.classes is not None):
        order = np.argsort(places, kind="stable")
        places, patterns = places[order], patterns[order]
    row, column = density.row_and_column(places, columns) if columns else (places, places)
    starts = np.searchsorted(row, np.arange(rows + 1))
    return starts, column, patterns.view(tensor.dtype)


def _row_major(tensor: EncodedTensor, kept_positions: np.ndarray) -> np.ndarray:
    """Turn positions in a record into row-major positions in its tensor, in the same order; int64, shape (kept,)."""
    places = kept_positions.astype(np.int64, copy=False)
    if not tensor.columns_first:
        return places
    rows, columns = matrix_of(tensor.shape, columns_first=False)
    column, row = density.row_and_column(places, rows)
    return row * columns + column


@dataclass(frozen=True)
class _Pending:
    """A tensor whose positions are decoded.

    Attributes:
        kept_positions: shape (kept,); None if all elements are kept.
        follows: whether each kept element follows its neighbour, shape (kept,); None where no stream needs that.
        symbols: of each stream of the values; None of a stream that waits for `follows`.
    """

    kept_positions: np.ndarray | None
    follows: np.ndarray | None
    symbols: list[np.ndarray | None]


def _decode_streams(
    tensors: Sequence[EncodedTensor],
) -> Iterator[tuple[np.ndarray | None, Symbols] | ContainerError]:
    """Yield for each tensor its positions and the symbols of its values, or the error of its streams.

    Codes that depend on their neighbours wait for the positions; all other streams are decoded together before.
    """
    independent = [stream for tensor in tensors for stream in tensor.streams if not stream.apart]
    decoded = iter(lockstep.decode_each_stream(independent))
    pending = [_decode_positions(tensor, decoded) for tensor in tensors]
    waiting = [
        (stream, result.follows)
        for tensor, result in zip(tensors, pending, strict=True)
        if isinstance(result, _Pending)
        for stream in tensor.values.streams
        if stream.apart
    ]
    last = iter(lockstep.decode_each_stream([stream for stream, _ in waiting], [follows for _, follows in waiting]))
    for result in pending:
        if isinstance(result, ContainerError):
            yield result
            continue
        try:
            symbols = _checked([next(last) if symbols is None else symbols for symbols in result.symbols])
            yield result.kept_positions, iter(symbols)
        except ContainerError as error:
            yield error.with_traceback(None)


def _decode_positions(tensor: EncodedTensor, decoded: Iterator[lockstep.Decoded]) -> _Pending | ContainerError:
    """Decode the positions of a tensor; `decoded` yields the symbols of its streams that do not wait."""
    try:
        symbols = _checked([next(decoded) for stream in tensor.streams if not stream.apart])
        first_of_values = len(symbols) - sum(not stream.apart for stream in tensor.values.streams)
        kept_positions, follows = tensor.decode_positions(iter(symbols[:first_of_values]))
    except ContainerError as error:
        return error.with_traceback(None)
    of_values = iter(symbols[first_of_values:])
    return _Pending(
        kept_positions, follows, [None if stream.apart else next(of_values) for stream in tensor.values.streams]
    )


def _checked(decoded: Sequence[lockstep.Decoded]) -> list[np.ndarray]:
    """Return the symbols of streams.

    Raises:
        ContainerError: one of them is damaged.
    """
    symbols = []
    for result in decoded:
        if isinstance(result, ContainerError):
            raise result
        symbols.append(result)
    return symbols
