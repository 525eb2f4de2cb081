"""Values as codes into a codebook: form 2 (FORMAT.md, section 4.2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from dcomp.coding import huffman, lockstep, tuning
from dcomp.coding.codebook import IndexedValues
from dcomp.coding.level import Level
from dcomp.coding.limits import MAX_CODEBOOK_SIZE
from dcomp.coding.lookup import lookup
from dcomp.coding.planes import Planes
from dcomp.coding.raw import Raw
from dcomp.coding.stream import Stream
from dcomp.coding.values import Buffer, Symbols, Values, ValuesContext
from dcomp.coding.wire import Cursor, varint
from dcomp.errors import ContainerError

CODEBOOK_IN_PLANES = 8


@dataclass(frozen=True)
class Shared(Values):
    """Values as codes into a codebook of k patterns.

    Attributes:
        codebook: the patterns, raw or in planes.
        size: number of patterns, k.
        codes: a symbol below k for each value.
    """

    ALLOWED_FLAGS: ClassVar[int] = CODEBOOK_IN_PLANES

    codebook: Raw | Planes
    size: int
    codes: Stream

    @property
    def flags(self) -> int:
        """The bit that is set if the codebook is in planes."""
        return CODEBOOK_IN_PLANES if isinstance(self.codebook, Planes) else 0

    @property
    def streams(self) -> Sequence[Stream]:
        """The streams of the codebook, then the codes."""
        return [*self.codebook.streams, self.codes]

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return len(varint(self.size)) + self.codebook.nbytes + self.codes.nbytes

    @cached_property
    def codebook_patterns(self) -> np.ndarray:
        """The patterns of the codebook, shape (k,), decoded once.

        Raises:
            ContainerError: damaged streams.
        """
        return self.codebook.patterns(iter(lockstep.decode_streams(self.codebook.streams)))

    def parts(self) -> Iterator[Buffer]:
        """Yield the size of the codebook, the codebook, and the codes."""
        yield varint(self.size)
        yield from self.codebook.parts()
        yield self.codes.to_bytes()

    def patterns(self, symbols: Symbols) -> np.ndarray:
        """Return the codebook's entry for each code."""
        codebook = self.codebook.patterns(symbols)
        return lookup(codebook, next(symbols))

    @classmethod
    def encode(
        cls, indexed: IndexedValues, dtype: np.dtype, level: Level, follows: np.ndarray | None = None
    ) -> "Shared":
        """Code indexed values; the codebook ascends in the file as `dtype` orders its elements.

        Args:
            indexed: the codebook and the code of each value, shape (m,), m > 0.
            dtype: of the elements.
            level: how hard to try.
            follows: whether each value is the neighbour of the one before; all are if absent. Shape (m,).
        """
        order = np.argsort(_ascending_keys(indexed.codebook, dtype))
        codebook = indexed.codebook[order]
        rank = np.empty(order.size, np.uint8 if order.size <= 256 else np.uint16)
        rank[order] = np.arange(order.size)
        codes = lookup(rank, indexed.codes)
        stream = huffman.encode_stream(codes, codebook.size, chain=level.chains, follows=follows)
        return cls(_smaller_codebook(codebook, dtype, level), codebook.size, stream)

    @classmethod
    def parse(cls, cursor: Cursor, context: ValuesContext) -> "Shared":
        """Read the codebook and the codes, which may stand apart in a record with positions.

        Raises:
            ContainerError: they break the format.
        """
        size = cursor.varint(MAX_CODEBOOK_SIZE, "codebook size")
        if size == 0:
            raise ContainerError(f"{cursor.label}: an empty codebook")
        form = Planes if context.flags & CODEBOOK_IN_PLANES else Raw
        codebook = form.parse(cursor, ValuesContext(size, context.dtype))
        return cls(codebook, size, Stream.parse(cursor, context.count, size, apart=context.has_positions))


def _smaller_codebook(codebook: np.ndarray, dtype: np.dtype, level: Level) -> Raw | Planes:
    raw = Raw(codebook)
    if codebook.size < tuning.MIN_CODEBOOK_IN_PLANES:
        return raw
    return Planes.smaller(codebook, dtype, raw.nbytes, level) or raw


def _ascending_keys(codebook: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return unsigned keys that ascend as the elements do: IEEE 754's total order for floats."""
    sign = codebook.dtype.type(1 << 8 * dtype.itemsize - 1)
    if dtype.kind in "ubc":
        return codebook
    if dtype.kind == "i":
        return codebook ^ sign
    return np.where(codebook & sign, ~codebook, codebook | sign)
