"""Values as they are: form 0 (FORMAT.md, section 4.2)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dcomp.coding.values import Buffer, Symbols, Values, ValuesContext
from dcomp.coding.wire import Cursor


@dataclass(frozen=True)
class Raw(Values):
    """Patterns as they are."""

    data: np.ndarray

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return self.data.nbytes

    def parts(self) -> Iterator[Buffer]:
        """Yield the elements, little-endian."""
        yield self.data.view(np.uint8).data

    def patterns(self, symbols: Symbols) -> np.ndarray:
        """Return the patterns; nothing is copied."""
        return self.data

    @classmethod
    def parse(cls, cursor: Cursor, context: ValuesContext) -> "Raw":
        """Read the elements."""
        itemsize = context.dtype.itemsize
        return cls(np.frombuffer(cursor.take(context.count * itemsize), f"<u{itemsize}"))
