"""Where the bytes of a file go (paper, section 6.4 and figure 11)."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass

from dcomp.coding.record import EncodedTensor
from dcomp.coding.stream import Stream
from dcomp.coding.values import Shared


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
        """All bytes."""
        return sum(astuple(self))

    @classmethod
    def of(cls, encoded: EncodedTensor) -> "Storage":
        """Divide the bytes of a record."""
        values = encoded.values
        positions = 0 if encoded.index is None else encoded.index.nbytes
        of_positions = _tables([] if encoded.index is None else encoded.index.streams)
        header = encoded.nbytes - positions - values.nbytes
        if not isinstance(values, Shared):
            of_values = _tables(values.streams)
            plain = values.nbytes - of_values
            is_rest = encoded.index is None and len(encoded.shape) < 2
            return cls(
                values=0 if is_rest else plain,
                positions=positions - of_positions,
                code_tables=of_positions + of_values,
                rest=plain if is_rest else 0,
                header=header,
            )
        of_codes = _tables([values.codes])
        return cls(
            values=values.codes.nbytes - of_codes,
            positions=positions - of_positions,
            codebooks=values.nbytes - values.codes.nbytes,
            code_tables=of_positions + of_codes,
            header=header,
        )

    @classmethod
    def sum(cls, parts: Iterable["Storage"]) -> "Storage":
        """All bytes of some records."""
        return cls(*map(sum, zip(*(astuple(part) for part in (cls(), *parts)), strict=True)))


def _tables(streams: Iterable[Stream]) -> int:
    return sum(stream.table_nbytes for stream in streams)
