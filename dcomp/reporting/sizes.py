"""The paper's tables 2 to 5 for a real file: every byte of a container, counted in the row of its tensor."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from dcomp.checkpoints.checkpoint import ARCHITECTURE_KEY
from dcomp.coding import nonzero
from dcomp.coding.nonzero import NonZero
from dcomp.coding.record import EncodedTensor
from dcomp.container.reader import Container
from dcomp.reporting.layer_row import LayerRow, sum_rows
from dcomp.reporting.paper import PAPER, PaperNetwork, PaperRow
from dcomp.reporting.storage import Storage


@dataclass(frozen=True)
class SizeReport:
    """A row for each tensor, or for each group of them, and the bytes of the file, which rows and overhead add up to.

    Attributes:
        rows: in the order of the file, unless they were arranged.
        total: the sum of all tensors.
        overhead: bytes of header, metadata and directory.
        file_bytes: bytes of the file.
        network: the network of the paper that the checkpoint holds; None if it holds another.
    """

    rows: list[LayerRow]
    total: LayerRow
    overhead: int
    file_bytes: int
    network: PaperNetwork | None

    @property
    def ratio(self) -> float:
        """Return the bytes of the dense tensors over the bytes of the whole file."""
        return self.total.dense_bytes / self.file_bytes

    @property
    def storage(self) -> Storage:
        """Return where the bytes of the whole file go."""
        return Storage.sum([self.total.storage, Storage(header=self.overhead)])

    @property
    def paper_total(self) -> PaperRow | None:
        """Return the paper's row for the whole network; None for another network."""
        return self.network.total if self.network is not None else None

    def paper_row(self, row: LayerRow) -> PaperRow | None:
        """Return the paper's row for a layer; None for a layer of another network."""
        return self.network.layers.get(row.name.removesuffix(".weight")) if self.network is not None else None

    def as_dict(self) -> dict[str, object]:
        """Return the report as plain data."""
        return {
            "file_bytes": self.file_bytes,
            "dense_bytes": self.total.dense_bytes,
            "ratio": self.ratio,
            "overhead_bytes": self.overhead,
            "storage": asdict(self.storage),
            "tensors": [row.as_dict(self.paper_row(row)) for row in self.rows],
            "total": self.total.as_dict(self.paper_total),
            "paper": None if self.network is None else self.network.as_dict(),
        }


def measure_container(
    container: Container, dense_bytes: Mapping[str, int] | None = None, *, max_memory: int | None = None
) -> SizeReport:
    """Account for every byte of a container.

    Args:
        container: each record is read once, and decoded where zeros may be.
        dense_bytes: bytes of the dense tensors by name; by default, bytes of the tensors that the container restores.
        max_memory: bytes that decoding may take; by default, the limit of the container.

    Raises:
        ContainerError: a record is damaged.
        LimitError: decoding takes more than `max_memory`.
    """
    rows = _rows_of_records(container, max_memory)
    rows |= _rows_of_ties(container, rows, max_memory)
    in_order = [rows[name] for name in container.names]
    total = sum_rows("total", in_order)
    if dense_bytes is not None:
        in_order = [replace(row, dense_bytes=dense_bytes.get(row.name, 0)) for row in in_order]
        total = replace(total, dense_bytes=sum(dense_bytes.values()))
    network = PAPER.get(container.metadata.get(ARCHITECTURE_KEY, ""))
    return SizeReport(in_order, total, container.directory.nbytes, container.nbytes, network)


def _rows_of_records(container: Container, max_memory: int | None) -> dict[str, LayerRow]:
    """Return a row for each tensor that has a record, by name."""
    rows: dict[str, LayerRow] = {}
    for records in container.records(max_memory=max_memory):
        for name, kept in zip(records, nonzero.of_records(list(records.values())), strict=True):
            rows[name] = _row_of_record(name, records[name], kept)
    return rows


def _row_of_record(name: str, encoded: EncodedTensor, kept: NonZero) -> LayerRow:
    index, width = encoded.index, 8 * encoded.dtype.itemsize
    code_bits, codebook_bits = _code_bits(encoded, kept.count)
    return LayerRow(
        name=name,
        tensors=1,
        pruned=int(kept.count < encoded.size),
        weights=encoded.size,
        kept=kept.count,
        coded=kept.count,
        dense_bytes=encoded.size * encoded.dtype.itemsize,
        bytes=encoded.nbytes,
        index_bytes=0 if index is None else index.nbytes,
        fillers=0 if index is None else index.fillers,
        pruned_bits=kept.count * width,
        code_bits=kept.count * code_bits,
        gap_bits=kept.gap_bits,
        codebook_bits=codebook_bits,
        storage=Storage.of(encoded),
    )


def _code_bits(encoded: EncodedTensor, kept: int) -> tuple[int, int]:
    """Return the bits of a kept element's code and of the codebook, or of the element and 0 where that is smaller."""
    width, distinct = 8 * encoded.dtype.itemsize, nonzero.distinct_values(encoded)
    if distinct is None:
        return width, 0
    code_bits = max(distinct - 1, 0).bit_length()
    return (code_bits, distinct * width) if kept * code_bits + distinct * width < kept * width else (width, 0)


def _rows_of_ties(
    container: Container, record_rows: Mapping[str, LayerRow], max_memory: int | None
) -> dict[str, LayerRow]:
    """Return a row for each tied tensor, which takes no bytes, by name.

    The same bytes hold other zeros where the dtype is another: such a tensor is decoded to count them.
    """
    rows: dict[str, LayerRow] = {}
    kept = {(name, container.entries[name].spec.dtype): row.kept for name, row in record_rows.items()}
    for entry in container.directory.entries:
        if entry.tied_to is None:
            continue
        spec, key = entry.spec, (entry.tied_to, entry.spec.dtype)
        if key not in kept:
            array = container.decode([entry.name], max_memory=max_memory)[entry.name]
            kept[key] = nonzero.of_array(array).count
        rows[entry.name] = LayerRow(
            entry.name, entry.tied_to, tensors=1, weights=spec.size, kept=kept[key], dense_bytes=spec.nbytes
        )
    return rows
