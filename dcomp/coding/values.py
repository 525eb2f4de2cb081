"""Values of a record <-> bytes, in the smallest of their forms (FORMAT.md, section 4.2).

Values are *patterns*: elements as unsigned integers of their size, shape (m,), in the record's order. Each form tells
which Huffman streams it holds, so that those of many tensors can be decoded in one go, and makes its patterns from
their symbols.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dcomp.coding import huffman
from dcomp.coding.level import Level
from dcomp.coding.limits import MAX_CODEBOOK_SIZE
from dcomp.coding.lookup import CHUNK, lookup
from dcomp.coding.plain import SAMPLE, Buffer, Raw, Symbols, Zstd, sampled
from dcomp.coding.planes import Planes, has_exponent
from dcomp.coding.stream import Stream
from dcomp.coding.wire import Cursor, varint
from dcomp.errors import ContainerError

DISTINCT = 0.8
"""If this part of a small sample's patterns differ, they are more than 16,000 or so: too many to gain by sharing."""

SMALL_SAMPLE = 1 << 13

PLANES_INSTEAD = 0.98
"""Of half-size floats, which have at most 65,536 patterns, codes have to beat planes by this factor."""

COUNTED_SAMPLE = 1 << 17
"""Half-size patterns that are counted before all of them are."""

UNSEEN_BITS = 0.72
"""By how much the entropy of a sample falls short, for each pattern in it (Miller 1955)."""

HEAVY = 0.1
"""Values are tried without a codebook if that, as it is, takes more than this part of them, or sharing saves less."""

SMALLEST_IN_PLANES = 16
"""Elements of a codebook from which on planes of it may be smaller."""

HASHED = 1 << 10
"""Codebooks up to this size are looked up by hash."""

MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53, 0xD6E8FEB86659FD93)
"""Odd numbers with well-spread bits, the first that keeps a codebook's hashes apart is taken."""


@dataclass(frozen=True)
class Shared:
    """Values as codes into a codebook of k patterns."""

    codebook: Raw | Planes
    size: int
    codes: Stream

    @property
    def streams(self) -> Sequence[Stream]:
        """Those of the codebook, and the codes."""
        return [*self.codebook.streams, self.codes]

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return len(varint(self.size)) + self.codebook.nbytes + self.codes.nbytes

    def parts(self) -> Iterator[Buffer]:
        """The size of the codebook, the codebook, and the codes."""
        yield varint(self.size)
        yield from self.codebook.parts()
        yield self.codes.to_bytes()

    def patterns(self, symbols: Symbols) -> np.ndarray:
        """The codebook's entry for each code."""
        codebook = self.codebook.patterns(symbols)
        return lookup(codebook, next(symbols))

    @classmethod
    def encode(cls, found: "Codes", dtype: np.dtype, level: Level, follows: np.ndarray | None = None) -> "Shared":
        """Code values that a codebook was found for; it ascends in the file as `dtype` orders its elements."""
        order = np.argsort(_ascending(found.codebook, dtype))
        codebook = found.codebook[order]
        rank = np.empty(order.size, np.uint8 if order.size <= 256 else np.uint16)
        rank[order] = np.arange(order.size)
        stream = huffman.encode_stream(lookup(rank, found.codes), codebook.size, chain=level.chains, follows=follows)
        smaller: Raw | Planes = Raw(codebook)
        if codebook.size >= SMALLEST_IN_PLANES:
            planes = Planes.encode(codebook, dtype, level)
            smaller = planes if planes.nbytes < smaller.nbytes else smaller
        return cls(smaller, codebook.size, stream)

    @classmethod
    def parse(cls, cursor: Cursor, count: int, dtype: np.dtype, *, planes: bool, apart: bool) -> "Shared":
        """Read `count` elements whose codebook is in planes, or raw, and that stand apart where positions say so.

        Raises:
            ContainerError: they break the format.
        """
        size = cursor.varint(MAX_CODEBOOK_SIZE, "codebook size")
        if size == 0:
            raise ContainerError(f"{cursor.what}: an empty codebook")
        codebook = Planes.parse(cursor, size, dtype) if planes else Raw.parse(cursor, size, dtype.itemsize)
        return cls(codebook, size, Stream.parse(cursor, count, size, apart=apart))


Form = Raw | Zstd | Shared | Planes


@dataclass(frozen=True)
class Codes:
    """Patterns as codes: the distinct ones, in any order, and for each value which it is."""

    codebook: np.ndarray
    codes: np.ndarray

    def permuted(self, order: np.ndarray) -> "Codes":
        """The codes of the values in another order."""
        return Codes(self.codebook, self.codes[order])


def _ascending(codebook: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Unsigned keys that ascend as the elements do: IEEE 754's total order for floats."""
    sign = codebook.dtype.type(1 << 8 * dtype.itemsize - 1)
    if dtype.kind in "ubc":
        return codebook
    if dtype.kind == "i":
        return codebook ^ sign
    return np.where(codebook & sign, ~codebook, codebook | sign)


def find_codes(patterns: np.ndarray, dtype: np.dtype, level: Level) -> Codes | None:
    """The distinct patterns and the code of each value; None if there are too many to share.

    A sample usually holds all values of a codebook; what it misses is added afterwards, without sorting everything.

    Args:
        patterns: shape (m,).
        dtype: of the elements.
        level: how hard to try.
    """
    most = min(MAX_CODEBOOK_SIZE, patterns.size // 2)
    if most == 0:
        return None
    if patterns.itemsize <= 2:
        return _counted_codes(patterns, dtype, most)
    if patterns.size > 4 * SMALL_SAMPLE and not level.exhaustive:
        few = np.unique(sampled(patterns)[:: SAMPLE // SMALL_SAMPLE])
        if few.size > DISTINCT * SMALL_SAMPLE:
            return None
    codebook = np.unique(sampled(patterns))
    while codebook.size <= most:
        codes, missed = _looked_up(patterns, codebook)
        if missed.size == 0:
            return Codes(codebook, codes)
        codebook = np.union1d(codebook, missed)
    return None


def _counted_codes(patterns: np.ndarray, dtype: np.dtype, most: int) -> Codes | None:
    """Codes of patterns of which there are at most 65,536 different ones."""
    step = patterns.size // COUNTED_SAMPLE | 1
    if step > 1 and _planes_do(huffman.histogram(patterns[::step], 1 << 8 * patterns.itemsize), dtype, UNSEEN_BITS):
        return None
    counts = huffman.histogram(patterns, 1 << 8 * patterns.itemsize)
    codebook = np.flatnonzero(counts).astype(patterns.dtype)
    if codebook.size > most or _planes_do(counts, dtype, huffman.TABLE_BITS + 16):
        return None
    code_of = np.zeros(counts.size, np.uint16)
    code_of[codebook] = np.arange(codebook.size)
    return Codes(codebook, lookup(code_of, patterns))


def _planes_do(counts: np.ndarray, dtype: np.dtype, bits_of_one: float) -> bool:
    """Whether 16-bit patterns that occur so often are about as small in planes, which are faster.

    Args:
        counts: how often each pattern occurs.
        dtype: of the elements.
        bits_of_one: what each pattern in use costs besides the entropy.
    """
    if counts.size < 1 << 16:
        return False
    planes = counts.reshape(2, -1).T if has_exponent(dtype) else counts  # of a float, the sign is the last bit
    turned = planes.reshape(256, 256)
    in_planes = huffman.entropy_bits(turned.sum(axis=1)) + huffman.entropy_bits(turned.sum(axis=0))
    shared = huffman.entropy_bits(counts) + bits_of_one * np.count_nonzero(counts)
    return bool(shared > PLANES_INSTEAD * in_planes)


def _looked_up(patterns: np.ndarray, codebook: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The code of each pattern, and patterns that the codebook, ascending, does not hold."""
    codes = np.empty(patterns.size, np.uint8 if codebook.size <= 256 else np.uint16)
    find = _hashed(codebook) or (lambda part: np.minimum(np.searchsorted(codebook, part), codebook.size - 1))
    missed = []
    for begin in range(0, patterns.size, CHUNK):
        part = patterns[begin : begin + CHUNK]
        found = find(part)
        wrong = codebook.take(found) != part
        if wrong.any():
            missed.append(np.unique(part[wrong]))
            if codebook.size + missed[-1].size > MAX_CODEBOOK_SIZE:
                return codes, missed[-1]
        codes[begin : begin + part.size] = found
    return codes, np.concatenate([codebook[:0], *missed])


def _hashed(codebook: np.ndarray) -> Callable[[np.ndarray], np.ndarray] | None:
    """A function from patterns to their codes, wrong for those that the codebook lacks; None if hashes collide."""
    if codebook.size > HASHED:
        return None
    bits = 16 if codebook.size <= 256 else 20
    word = codebook.dtype.type
    shift = word(8 * codebook.itemsize - bits)
    for multiplier in MULTIPLIERS:
        factor = word(multiplier & (1 << 8 * codebook.itemsize) - 1)
        hashes = codebook * factor >> shift
        if np.unique(hashes).size == codebook.size:
            code_of = np.zeros(1 << bits, np.uint16)
            code_of[hashes] = np.arange(codebook.size)
            return lambda part: code_of.take((part * factor >> shift).astype(np.intp))
    return None


def encode_shared(found: Codes, dtype: np.dtype, level: Level, follows: np.ndarray | None = None) -> Form:
    """The smallest form of values that share a codebook.

    Args:
        found: the codes of the values, shape (m,), m > 0.
        dtype: of the elements.
        level: how hard to try.
        follows: whether each value is the neighbour of the one before; all are if absent. Shape (m,).
    """
    shared = Shared.encode(found, dtype, level, follows)
    heavy = found.codebook.nbytes > HEAVY * shared.nbytes  # else planes hardly win: they know less of each value
    gains = shared.nbytes < (1 - HEAVY) * found.codes.size * dtype.itemsize
    if gains and not heavy and found.codes.size > SAMPLE and not level.exhaustive:
        return shared
    patterns = lookup(found.codebook, found.codes)
    if heavy or not gains or level.exhaustive:
        free = encode(patterns, dtype, level)
        return shared if shared.nbytes <= free.nbytes else free
    return Zstd.smaller(patterns, shared.nbytes, level.zstd) or shared


def encode(patterns: np.ndarray, dtype: np.dtype, level: Level) -> Form:
    """The smallest form of patterns, shape (m,), that share no codebook."""
    best: Form = Raw(patterns)
    if patterns.size == 0:
        return best
    planes = Planes.encode(patterns, dtype, level)
    if planes.nbytes < best.nbytes:
        best = planes
    return Zstd.smaller(patterns, best.nbytes, level.zstd, exhaustive=level.exhaustive) or best
