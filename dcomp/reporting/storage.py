"""Where the bytes of a file go (paper, section 6.4 and figure 11)."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass

from dcomp.coding.record import EncodedTensor
from dcomp.coding.shared import Shared
from dcomp.coding.stream import Stream


@dataclass(frozen=True)
class Storage:
    """Bytes of one record, of several, or of a file, each counted once.

    Attributes:
        values: codes of the kept elements, or the elements themselves.
        positions: where the kept elements are.
        codebooks: shared values, and how many they are.
        code_tables: Huffman code lengths of positions and values.
        rest: elements of vectors that have neither positions nor a codebook, such as most biases.
        header: the header, the metadata, the directory and its checksums; of a record the byte of its flags.
    """

    values: int = 0
    positions: int = 0
    codebooks: int = 0
    code_tables: int = 0
    rest: int = 0
    header: int = 0

    @property
    def total(self) -> int:
        """Return the sum of all parts."""
        return sum(astuple(self))

    @classmethod
    def of(cls, encoded: EncodedTensor) -> "Storage":
        """Return where the bytes of a record go."""
        index, values = encoded.index, encoded.values
        positions = 0 if index is None else index.nbytes
        position_tables = 0 if index is None else _code_table_bytes(index.streams)
        codebook = values.nbytes - values.codes.nbytes if isinstance(values, Shared) else 0
        value_tables = _code_table_bytes([values.codes] if isinstance(values, Shared) else values.streams)
        elements = values.nbytes - codebook - value_tables
        is_rest = index is None and len(encoded.shape) < 2 and not isinstance(values, Shared)
        return cls(
            values=0 if is_rest else elements,
            positions=positions - position_tables,
            codebooks=codebook,
            code_tables=position_tables + value_tables,
            rest=elements if is_rest else 0,
            header=encoded.nbytes - positions - values.nbytes,
        )

    @classmethod
    def sum(cls, storages: Iterable["Storage"]) -> "Storage":
        """Return the sum of each part over all `storages`."""
        return cls(*map(sum, zip(*(astuple(storage) for storage in (cls(), *storages)), strict=True)))


def _code_table_bytes(streams: Iterable[Stream]) -> int:
    return sum(stream.table_nbytes for stream in streams)
