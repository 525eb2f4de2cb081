"""The base class of all forms of values (FORMAT.md, section 4.2).

Values are *patterns*: elements as unsigned integers of their size, shape (m,), in the record's order. A form lists
its Huffman streams, so that the streams of many tensors are decoded together, and turns their symbols into patterns.
`value_forms` lists the forms.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dcomp.coding.level import Level
from dcomp.coding.stream import Stream
from dcomp.coding.wire import Cursor

Symbols = Iterator[np.ndarray]
Buffer = bytes | memoryview


@dataclass(frozen=True)
class ValuesContext:
    """What a record says about its values before they begin.

    Attributes:
        count: number of values, m.
        dtype: of the elements.
        flags: of the record.
        has_positions: whether the record has positions; codes may stand apart then.
    """

    count: int
    dtype: np.dtype
    flags: int = 0
    has_positions: bool = False


class Values(ABC):
    """Values in one of their forms.

    Attributes:
        ALLOWED_FLAGS: bits that this form may set in the flags of its record.
        COPIES: arrays of all values that decoding holds in addition to the result.
    """

    ALLOWED_FLAGS: ClassVar[int] = 0
    COPIES: ClassVar[int] = 0

    @property
    def flags(self) -> int:
        """The bits that these values set in the flags of their record."""
        return 0

    @property
    def streams(self) -> Sequence[Stream]:
        """The streams whose symbols `patterns` takes, in order."""
        return ()

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Size in the file."""

    @abstractmethod
    def parts(self) -> Iterator[Buffer]:
        """Yield the bytes that FORMAT.md specifies, in pieces that are not copied."""

    @abstractmethod
    def patterns(self, symbols: Symbols) -> np.ndarray:
        """Return the patterns, shape (m,), from the decoded symbols of `streams`.

        Raises:
            ContainerError: damaged data.
        """

    @classmethod
    @abstractmethod
    def parse(cls, cursor: Cursor, context: ValuesContext) -> "Values":
        """Read values from a record.

        Raises:
            ContainerError: they break the format.
        """

    @classmethod
    def smaller(cls, patterns: np.ndarray, dtype: np.dtype, limit: int, level: Level) -> "Values | None":
        """Encode patterns, shape (m,), m > 0, in this form.

        Returns:
            the values, or None if they take `limit` bytes or more, or if this form needs a codebook.
        """
        return None
