"""The paper's tables 2 to 5, read from a real file: every byte of a container, in the row it belongs to."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from dcomp.checkpoint import ARCHITECTURE_KEY
from dcomp.coding.tensor import EncodedTensor
from dcomp.coding.values import Shared
from dcomp.container.reader import Container
from dcomp.reporting.paper import PAPER, Published


@dataclass(frozen=True)
class Row:
    """One tensor, or the sum of all.

    The names of the columns are the paper's: P pruning, Q quantization, H Huffman coding. Bits are means: of a
    weight over the kept weights, of an index over the kept weights and fillers. Those after H come from the file
    and include codebooks and code tables; those before it are what fixed-width fields would take.

    Attributes:
        name: of the tensor.
        weights: number of elements.
        kept: number of elements that have a value in the file; where zeros are few they have one as well, and only
            decoding could tell how many they are.
        weight_bits: bits of a weight after P+Q (the width of a code, or of the dtype where nothing is shared).
        weight_bits_coded: bits of a weight after P+Q+H.
        index_bits: bits of an index after P+Q (the gap width); None where all elements are kept.
        index_bits_coded: bits of an index after P+Q+H; None likewise.
        fillers: entries that only bridge a gap.
        dense_bytes: bytes of the tensor before compression.
        bytes: bytes of its record.
    """

    name: str
    weights: int
    kept: int
    weight_bits: float
    weight_bits_coded: float
    index_bits: float | None
    index_bits_coded: float | None
    fillers: int
    dense_bytes: int
    bytes: int

    @property
    def kept_percent(self) -> float:
        """Kept elements in percent of all."""
        return 100 * self.kept / self.weights if self.weights else 0.0

    @property
    def ratio(self) -> float:
        """Dense bytes over bytes in the file."""
        return self.dense_bytes / self.bytes if self.bytes else 0.0


@dataclass(frozen=True)
class SizeReport:
    """A row for each tensor, the bytes of header and metadata, and the file's bytes, which both add up to.

    Beside these, what the paper says of the network, if it is one of the paper's.
    """

    rows: list[Row]
    total: Row
    overhead: int
    file_bytes: int
    paper: Published | None

    @property
    def ratio(self) -> float:
        """Bytes of the dense tensors over bytes of the whole file."""
        return self.total.dense_bytes / self.file_bytes

    def as_dict(self) -> dict[str, object]:
        """The report as plain data."""
        return {
            "file_bytes": self.file_bytes,
            "dense_bytes": self.total.dense_bytes,
            "ratio": self.ratio,
            "overhead_bytes": self.overhead,
            "tensors": [row_dict(row) for row in self.rows],
            "total": row_dict(self.total),
            "paper": asdict(self.paper) if self.paper is not None else None,
        }


def row_dict(row: Row) -> dict[str, object]:
    """A row as plain data, with its percentage and ratio."""
    return {**asdict(row), "kept_percent": row.kept_percent, "ratio": row.ratio}


def measure(container: Container, dense_bytes: Mapping[str, int] | None = None) -> SizeReport:
    """Account for every byte of a container.

    Args:
        container: reads each record once; nothing is decoded.
        dense_bytes: bytes of the dense tensors, by name, if not those that the container restores.

    Raises:
        ContainerError: a damaged record.
    """
    rows = []
    of_records: dict[str, Row] = {}
    for entry in container.directory.entries:
        own = dense_bytes.get(entry.name, 0) if dense_bytes is not None else entry.spec.nbytes
        record = entry.name if entry.tied_to is None else entry.tied_to
        if record not in of_records:
            of_records[record] = _row(entry.name, container.encoded(entry.name), own)
        row = replace(of_records[record], name=entry.name, dense_bytes=own)
        rows.append(
            row if entry.tied_to is None else replace(row, weight_bits_coded=0.0, index_bits_coded=None, bytes=0)
        )
    total = _total(rows, sum(dense_bytes.values()) if dense_bytes is not None else None)
    paper = PAPER.get(container.metadata.get(ARCHITECTURE_KEY, ""))
    return SizeReport(rows, total, container.directory.nbytes, container.nbytes, paper)


def _row(name: str, encoded: EncodedTensor, dense_bytes: int) -> Row:
    kept, size = encoded.kept, encoded.nbytes
    index = encoded.index
    index_size = len(encoded.index_bytes)
    entries = kept + index.fillers if index is not None else 0
    shared = encoded.values if isinstance(encoded.values, Shared) else None
    return Row(
        name=name,
        weights=encoded.size,
        kept=kept,
        weight_bits=(shared.size - 1).bit_length() if shared is not None else 8 * encoded.dtype.itemsize,
        weight_bits_coded=8 * (size - index_size) / kept if kept else 0.0,
        index_bits=index.width if index is not None else None,
        index_bits_coded=8 * index_size / entries if entries else (None if index is None else 0.0),
        fillers=index.fillers if index is not None else 0,
        dense_bytes=dense_bytes,
        bytes=size,
    )


def _total(rows: list[Row], dense_bytes: int | None) -> Row:
    kept = sum(row.kept for row in rows)
    indexed = [row for row in rows if row.index_bits is not None]
    entries = sum(row.kept + row.fillers for row in indexed)

    def mean(pairs: list[tuple[float | None, int]], count: int) -> float:
        return sum((bits or 0.0) * number for bits, number in pairs) / count if count else 0.0

    return Row(
        name="total",
        weights=sum(row.weights for row in rows),
        kept=kept,
        weight_bits=mean([(row.weight_bits, row.kept) for row in rows], kept),
        weight_bits_coded=mean([(row.weight_bits_coded, row.kept) for row in rows], kept),
        index_bits=mean([(row.index_bits, row.kept + row.fillers) for row in indexed], entries) if indexed else None,
        index_bits_coded=mean([(row.index_bits_coded, row.kept + row.fillers) for row in indexed], entries)
        if indexed
        else None,
        fillers=sum(row.fillers for row in rows),
        dense_bytes=sum(row.dense_bytes for row in rows) if dense_bytes is None else dense_bytes,
        bytes=sum(row.bytes for row in rows),
    )
