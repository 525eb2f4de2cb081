"""Array <-> EncodedTensor: the smallest encoding wins (FORMAT.md, section 4).

An encoding is where the kept elements are (a `SparseIndex`, or nothing if all are kept) and what they are (`Plain`
bytes, or `Shared` values). Elements are told apart by their bits, so whatever goes in comes out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import zstandard

from dcomp import dtypes
from dcomp.coding import huffman, sparse_index
from dcomp.coding.huffman import Stream
from dcomp.coding.limits import MAX_CODEBOOK_SIZE
from dcomp.coding.sparse_index import SparseIndex
from dcomp.coding.wire import Cursor, varint
from dcomp.errors import ContainerError

RAW, ZSTD, SHARED = 0, 1, 2
HAS_POSITIONS = 1

ZSTD_LEVEL = 9
SAMPLE = 1 << 17
"""Elements or bytes that are looked at before all of them are."""


@dataclass(frozen=True)
class Plain:
    """Values as their bytes, or as a Zstandard frame of them."""

    data: bytes | memoryview
    compressed: bool


@dataclass(frozen=True)
class Shared:
    """Values as codes into a codebook of element patterns, shape (k,)."""

    codebook: np.ndarray
    codes: Stream


@dataclass(frozen=True)
class EncodedTensor:
    """A tensor's dtype and shape, where its kept elements are, and what they are."""

    dtype: np.dtype
    shape: tuple[int, ...]
    index: SparseIndex | None
    values: Plain | Shared

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def kept(self) -> int:
        """Number of elements that have a value in the record."""
        return self.size if self.index is None else self.index.kept

    @cached_property
    def index_bytes(self) -> bytes:
        """The positions as they stand in the record."""
        return b"" if self.index is None else self.index.to_bytes()

    @cached_property
    def record(self) -> bytes:
        """The record as FORMAT.md, section 4, lays it out."""
        match self.values:
            case Plain(data, compressed):
                form, parts = ZSTD if compressed else RAW, [data]
            case Shared(codebook, codes):
                form, parts = SHARED, [varint(codebook.size), codebook.tobytes(), codes.to_bytes()]
        flags = form << 1 | (self.index is not None)
        return b"".join([bytes([flags]), self.index_bytes, *parts])

    @classmethod
    def parse(cls, record: bytes | memoryview, dtype: np.dtype, shape: tuple[int, ...], what: str) -> "EncodedTensor":
        """Read a record, which errors call `what`.

        Raises:
            ContainerError: it breaks the format.
        """
        cursor = Cursor(record, what)
        elements = prod(shape)
        flags = cursor.byte()
        form = flags >> 1
        if form > SHARED:
            raise ContainerError(f"{what}: reserved bits are set in its flags {flags:#04x}")
        index = SparseIndex.parse(cursor, elements) if flags & HAS_POSITIONS else None
        count = elements if index is None else index.kept
        values: Plain | Shared
        if form == SHARED:
            if count == 0:
                # "If m is 0, the form must be raw."
                raise ContainerError(f"{what}: shared values where there are none")
            k = cursor.varint(MAX_CODEBOOK_SIZE, "codebook size")
            if k == 0:
                raise ContainerError(f"{what}: an empty codebook")
            codebook = np.frombuffer(cursor.take(k * dtype.itemsize), f"<u{dtype.itemsize}")
            values = Shared(codebook, Stream.parse(cursor, count, k))
        else:
            values = Plain(cursor.take(cursor.remaining), form == ZSTD)
            _check_plain(values, count, dtype.itemsize, what)
        cursor.finish()
        return cls(dtype, shape, index, values)


def _check_plain(values: Plain, count: int, itemsize: int, what: str) -> None:
    if not values.compressed:
        size = len(values.data)
    elif count == 0:
        raise ContainerError(f"{what}: compressed values where there are none")
    else:
        try:
            size = zstandard.frame_content_size(values.data)
        except zstandard.ZstdError as error:
            raise ContainerError(f"{what}: not a Zstandard frame") from error
    if size != count * itemsize:
        raise ContainerError(f"{what}: {size} bytes of values, {count * itemsize} expected")


def encode(array: np.ndarray) -> EncodedTensor:
    """Find the zeros and the shared values of an array and code it in the fewest bytes."""
    patterns = dtypes.bit_patterns(array)
    positions = np.flatnonzero(patterns)
    if positions.size == patterns.size:
        return EncodedTensor(array.dtype, array.shape, None, _encode_values(patterns, array.dtype))
    kept = patterns[positions]
    if kept.size == 0:
        return EncodedTensor(array.dtype, array.shape, SparseIndex(0), Plain(b"", compressed=False))

    gaps = sparse_index.gaps_of(positions)
    planned = sparse_index.plan(gaps)
    shared = find_codebook(kept)
    if shared is not None and not _worth_sparse(planned, *shared, zeros=patterns.size - kept.size):
        return EncodedTensor(array.dtype, array.shape, None, _encode_values(patterns, array.dtype))
    sparse = EncodedTensor(
        array.dtype,
        array.shape,
        sparse_index.encode(gaps, planned),
        _encode_values(kept, array.dtype, shared),
    )
    dense = _compressed(patterns, limit=len(sparse.record))
    return sparse if dense is None else EncodedTensor(array.dtype, array.shape, None, dense)


def _worth_sparse(planned: sparse_index.GapPlan, codebook: np.ndarray, codes: np.ndarray, *, zeros: int) -> bool:
    """Whether positions and codes take fewer bits than codes among which zero is one."""
    counts = np.bincount(codes, minlength=codebook.size)
    dense = np.append(counts, zeros)
    pattern_bits = 8 * codebook.itemsize
    return planned.bits + _coded_bits(counts) < _coded_bits(dense) + pattern_bits


def _coded_bits(counts: np.ndarray) -> int:
    return int(counts @ huffman.code_lengths(counts).astype(np.int64)) if np.count_nonzero(counts) > 1 else 0


def _encode_values(
    patterns: np.ndarray, dtype: np.dtype, shared: tuple[np.ndarray, np.ndarray] | None = None
) -> Plain | Shared:
    """The smallest of raw, compressed and shared values."""
    best: Plain | Shared = Plain(patterns.view(np.uint8).data, compressed=False)
    size = patterns.nbytes
    shared = shared or find_codebook(patterns)
    if shared is not None:
        codebook, codes = shared
        order = np.argsort(_ascending(codebook, dtype))
        rank = np.empty(codebook.size, np.uint16)
        rank[order] = np.arange(codebook.size)
        codes = rank[codes]
        stream = huffman.encode(codes, huffman.code_lengths(np.bincount(codes, minlength=codebook.size)))
        candidate = Shared(codebook[order], stream)
        shared_size = len(varint(codebook.size)) + codebook.nbytes + len(stream.to_bytes())
        if shared_size < size:
            best, size = candidate, shared_size
    return _compressed(patterns, limit=size) or best


def _ascending(codebook: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Unsigned keys that ascend as the elements do: IEEE 754's total order for floats."""
    sign = codebook.dtype.type(1 << 8 * dtype.itemsize - 1)
    if dtype.kind in "ub" or dtype.kind == "c":
        return codebook
    if dtype.kind == "i":
        return codebook ^ sign
    return np.where(codebook & sign, ~codebook, codebook | sign)


def _compressed(patterns: np.ndarray, limit: int) -> Plain | None:
    """A Zstandard frame of the patterns, if it takes fewer bytes than `limit`; large ones are sampled first."""
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    data = patterns.view(np.uint8)
    if data.size > 8 * SAMPLE:
        sample = np.concatenate([part[: SAMPLE // 8] for part in np.array_split(data, 8)])
        if len(compressor.compress(sample.data)) * data.size > 1.1 * limit * sample.size:
            return None
    frame = compressor.compress(data.data)
    return Plain(frame, compressed=True) if len(frame) < limit else None


def find_codebook(patterns: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The distinct patterns, ascending, and the code of each element; None if there are too many to share.

    A sample usually holds all values of a codebook; what it misses is added afterwards, without sorting everything.

    Args:
        patterns: shape (n,).
    """
    most = min(MAX_CODEBOOK_SIZE, patterns.size // 2)
    if most == 0:
        return None
    codebook = np.unique(patterns[:: -(-patterns.size // SAMPLE)])
    while codebook.size <= most:
        codes = np.searchsorted(codebook, patterns).astype(np.uint32)
        np.minimum(codes, codebook.size - 1, out=codes)
        missed = patterns[codebook[codes] != patterns]
        if missed.size == 0:
            return codebook, codes
        codebook = np.union1d(codebook, missed)
    return None


def decode(tensors: Sequence[EncodedTensor]) -> list[np.ndarray]:
    """Decode tensors, all their streams in lock step; bit for bit what `encode` was given.

    Raises:
        ContainerError: damaged streams.
    """
    streams = [stream for tensor in tensors for stream in _streams(tensor)]
    symbols = iter(huffman.decode(streams))
    return [_assemble(tensor, [next(symbols) for _ in _streams(tensor)]) for tensor in tensors]


def _streams(tensor: EncodedTensor) -> list[Stream]:
    gaps = tensor.index.gaps if tensor.index is not None else None
    codes = tensor.values.codes if isinstance(tensor.values, Shared) else None
    return [stream for stream in (gaps, codes) if stream is not None]


def _assemble(tensor: EncodedTensor, symbols: list[np.ndarray]) -> np.ndarray:
    match tensor.values:
        case Shared(codebook, _):
            values = codebook[symbols[-1]]
        case Plain(data, compressed):
            raw = _decompressed(data, tensor.kept * tensor.dtype.itemsize) if compressed else data
            values = np.frombuffer(raw, f"<u{tensor.dtype.itemsize}")
    if tensor.index is not None:
        flat = np.zeros(tensor.size, values.dtype)
        if tensor.index.kept:
            flat[sparse_index.decode(tensor.index, symbols[0], tensor.size)] = values
        values = flat
    return values.view(tensor.dtype).reshape(tensor.shape)


def _decompressed(frame: bytes | memoryview, size: int) -> bytes:
    try:
        data = zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ContainerError(f"damaged Zstandard frame: {error}") from error
    if len(data) != size:
        raise ContainerError(f"a Zstandard frame of {len(data)} bytes where {size} were declared")
    return data
