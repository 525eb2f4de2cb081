"""The paper's tables 2 to 5, read from a real file: every byte of a container, in the row that it belongs to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace

from dcomp.checkpoints.checkpoint import ARCHITECTURE_KEY
from dcomp.coding import nonzero
from dcomp.coding.nonzero import NonZero
from dcomp.coding.record import EncodedTensor
from dcomp.container.reader import Container
from dcomp.reporting.paper import PAPER, PaperNetwork, PaperRow
from dcomp.reporting.storage import Storage


@dataclass(frozen=True)
class LayerRow:
    """One tensor, or the sum of several. All but the names are sums, so that rows can be added.

    The names are the paper's: P pruning, Q quantization, H Huffman coding. What is after H is what stands in the file.
    What is before it is an estimate, the paper's arithmetic: after P, the kept weights, without their positions; after
    P+Q, for each kept weight a code and a gap in fields of fixed width, and the codebook.

    Attributes:
        name: of the tensor.
        tied_to: name of the tensor that has the same bytes, and a record, for all of them; None if one has a record.
        tensors: how many they are.
        pruned: how many of them hold zeros.
        weights: number of elements.
        kept: number of elements that are not zero.
        coded: those of them that take bits in the file: all but those of tied tensors.
        dense_bytes: bytes before compression.
        bytes: bytes of the records.
        index_bytes: those of them that positions take, code tables and density classes included.
        fillers: entries of the records that only bridge a gap.
        pruned_bits: estimated bits after P.
        code_bits: estimated bits of all codes after P+Q: log2 of the codebook's size, or the width of the dtype.
        gap_bits: estimated bits of all gaps after P+Q, fillers included.
        codebook_bits: estimated bits of the codebooks after P+Q; 0 where the elements themselves are smaller.
        storage: where the bytes of the records go.
    """

    name: str
    tied_to: str | None
    tensors: int
    pruned: int
    weights: int
    kept: int
    coded: int
    dense_bytes: int
    bytes: int
    index_bytes: int
    fillers: int
    pruned_bits: int
    code_bits: int
    gap_bits: int
    codebook_bits: int
    storage: Storage

    @property
    def kept_percent(self) -> float:
        """Elements that are not zero, in percent of all."""
        return 100 * self.kept / self.weights if self.weights else 0.0

    @property
    def weight_bits(self) -> float | None:
        """Estimated bits of a kept weight after P+Q; None if no weight takes bits."""
        return self.code_bits / self.coded if self.coded else None

    @property
    def weight_bits_coded(self) -> float | None:
        """Bits of a kept weight in the file: of all that is not positions; None if no weight takes bits."""
        return 8 * (self.bytes - self.index_bytes) / self.coded if self.coded else None

    @property
    def index_bits(self) -> float | None:
        """Estimated bits of a kept weight's index after P+Q; None where nothing is zero."""
        return self.gap_bits / self.coded if self.coded and self.pruned else None

    @property
    def index_bits_coded(self) -> float | None:
        """Bits of a kept weight's index in the file, 0 where zero has a code; None where nothing is zero."""
        return 8 * self.index_bytes / self.coded if self.coded and self.pruned else None

    @property
    def estimated_ratio_pruned(self) -> float | None:
        """Dense bytes over the estimate after P."""
        return 8 * self.dense_bytes / self.pruned_bits if self.pruned_bits else None

    @property
    def estimated_ratio_shared(self) -> float | None:
        """Dense bytes over the estimate after P+Q."""
        estimate = self.code_bits + self.gap_bits + self.codebook_bits
        return 8 * self.dense_bytes / estimate if estimate else None

    @property
    def ratio(self) -> float | None:
        """Dense bytes over bytes in the file, after P+Q+H."""
        return self.dense_bytes / self.bytes if self.bytes else None


SUMMED = [field.name for field in fields(LayerRow) if field.name not in ("name", "tied_to", "storage")]
RATIOS = ("estimated_ratio_pruned", "estimated_ratio_shared", "ratio")
BITS = ("weight_bits", "weight_bits_coded", "index_bits", "index_bits_coded")
SHOWN = (
    *("name", "tied_to", "tensors", "weights", "kept", "kept_percent"),
    *BITS,
    *("fillers", "dense_bytes", "bytes"),
    *RATIOS,
)
"""What is told of a row as plain data."""


def summed(name: str, rows: Sequence[LayerRow]) -> LayerRow:
    """The sum of some rows."""
    sums = {field: sum(getattr(row, field) for row in rows) for field in SUMMED}
    ties = {row.tied_to for row in rows}
    return LayerRow(
        name=name,
        tied_to=ties.pop() if len(ties) == 1 else None,
        **sums,
        storage=Storage.sum(row.storage for row in rows),
    )


@dataclass(frozen=True)
class SizeReport:
    """A row for each tensor, or for each group of them, and the bytes of the file, which rows and overhead add up to.

    Attributes:
        rows: in the order of the file, or in another that was asked for.
        total: the sum of all tensors.
        overhead: bytes of header, metadata and directory.
        file_bytes: bytes of the file.
        network: the paper's network that the checkpoint is one of.
    """

    rows: list[LayerRow]
    total: LayerRow
    overhead: int
    file_bytes: int
    network: PaperNetwork | None

    @property
    def ratio(self) -> float:
        """Bytes of the dense tensors over bytes of the whole file."""
        return self.total.dense_bytes / self.file_bytes

    @property
    def storage(self) -> Storage:
        """Where the bytes of the whole file go."""
        return Storage.sum([self.total.storage, Storage(header=self.overhead)])

    def published(self, row: LayerRow) -> PaperRow | None:
        """The paper's row for a layer of one of its networks."""
        return self.network.layers.get(row.name.removesuffix(".weight")) if self.network is not None else None

    def as_dict(self) -> dict[str, object]:
        """The report as plain data."""
        return {
            "file_bytes": self.file_bytes,
            "dense_bytes": self.total.dense_bytes,
            "ratio": self.ratio,
            "overhead_bytes": self.overhead,
            "storage": asdict(self.storage),
            "tensors": [row_dict(row, self.published(row)) for row in self.rows],
            "total": row_dict(self.total, self.network.total if self.network is not None else None),
            "paper": None if self.network is None else {**published_dict(self.network.total), **_table_1(self.network)},
        }


def row_dict(row: LayerRow, published: PaperRow | None = None) -> dict[str, object]:
    """A row as plain data, with the paper's."""
    paper = None if published is None else published_dict(published)
    return {**{figure: getattr(row, figure) for figure in SHOWN}, "storage": asdict(row.storage), "paper": paper}


def published_dict(published: PaperRow) -> dict[str, object]:
    """A row of the paper's as plain data, with the ratios that its rates come to."""
    return {**asdict(published), **{ratio: getattr(published, ratio) for ratio in RATIOS}}


def _table_1(network: PaperNetwork) -> dict[str, object]:
    """What the paper's table 1 says of a network."""
    return {key: value for key, value in vars(network).items() if key not in ("layers", "total")}


def measure_container(
    container: Container, dense_bytes: Mapping[str, int] | None = None, *, max_memory: int | None = None
) -> SizeReport:
    """Account for every byte of a container.

    Args:
        container: each record is read once, and decoded where zeros may be.
        dense_bytes: bytes of the dense tensors, by name, if not those that the container restores.
        max_memory: bytes that decoding may take, by default those given to the container.

    Raises:
        ContainerError: a damaged record.
        LimitError: decoding takes more than `max_memory`.
    """
    rows: dict[str, LayerRow] = {}
    for records in container.records(max_memory=max_memory):
        for name, found in zip(records, nonzero.of_records(list(records.values())), strict=True):
            rows[name] = _row(name, records[name], found)
    rows |= _tied_rows(container, rows, max_memory)
    if dense_bytes is not None:
        rows = {name: replace(row, dense_bytes=dense_bytes.get(name, 0)) for name, row in rows.items()}
    in_order = [rows[name] for name in container.names]
    total = summed("total", in_order)
    if dense_bytes is not None:
        total = replace(total, dense_bytes=sum(dense_bytes.values()))
    network = PAPER.get(container.metadata.get(ARCHITECTURE_KEY, ""))
    return SizeReport(in_order, total, container.directory.nbytes, container.nbytes, network)


def _row(name: str, encoded: EncodedTensor, found: NonZero) -> LayerRow:
    index, width = encoded.index, 8 * encoded.dtype.itemsize
    code_bits, codebook_bits = _bits_of_codes(encoded, found.count)
    return LayerRow(
        name=name,
        tied_to=None,
        tensors=1,
        pruned=int(found.count < encoded.size),
        weights=encoded.size,
        kept=found.count,
        coded=found.count,
        dense_bytes=encoded.size * encoded.dtype.itemsize,
        bytes=encoded.nbytes,
        index_bytes=0 if index is None else index.nbytes,
        fillers=0 if index is None else index.fillers,
        pruned_bits=found.count * width,
        code_bits=found.count * code_bits,
        gap_bits=found.gap_bits,
        codebook_bits=codebook_bits,
        storage=Storage.of(encoded),
    )


def _bits_of_codes(encoded: EncodedTensor, kept: int) -> tuple[int, int]:
    """Bits of a kept element's code and of the codebook, or of the element and none, whichever are fewer together."""
    width, distinct = 8 * encoded.dtype.itemsize, nonzero.distinct_values(encoded)
    if distinct is None:
        return width, 0
    code = max(distinct - 1, 0).bit_length()
    return (code, distinct * width) if kept * code + distinct * width < kept * width else (width, 0)


def _tied_rows(container: Container, records: Mapping[str, LayerRow], max_memory: int | None) -> dict[str, LayerRow]:
    """Rows of tensors that take no bytes; of another dtype than the ones that they are tied to, their zeros differ."""
    rows: dict[str, LayerRow] = {}
    kept = {(name, container.entries[name].spec.dtype): row.kept for name, row in records.items()}
    nothing = summed("", [])
    for entry in container.directory.entries:
        if entry.tied_to is not None:
            alike = entry.tied_to, entry.spec.dtype
            if alike not in kept:
                kept[alike] = nonzero.of_array(container.decode([entry.name], max_memory=max_memory)[entry.name]).count
            spec = entry.spec
            rows[entry.name] = replace(
                nothing,
                name=entry.name,
                tied_to=entry.tied_to,
                tensors=1,
                weights=spec.size,
                kept=kept[alike],
                dense_bytes=spec.nbytes,
            )
    return rows


def arrange(report: SizeReport, depth: int | None, key: str | None, top: int | None) -> SizeReport:
    """A report with its rows grouped by module, sorted, and all but the first of them in one.

    Args:
        report: what to arrange; the total stays.
        depth: how many parts of a name, between dots, name a module; None leaves tensors apart.
        key: what to sort by: `name`, ascending, or a sum of the row or its kept percentage or ratio, descending.
        top: how many rows stay; None keeps all.
    """
    rows = report.rows if depth is None else by_module(report.rows, depth)
    if key == "name":
        rows = sorted(rows, key=lambda row: row.name)
    elif key is not None:
        rows = sorted(rows, key=lambda row: getattr(row, key) or 0, reverse=True)
    if top is not None and len(rows) > top:
        left = len(rows) - top
        rows = [*rows[:top], summed(f"{left} other{'s' * (left > 1)}", rows[top:])]
    return replace(report, rows=rows)


def by_module(rows: Iterable[LayerRow], depth: int) -> list[LayerRow]:
    """Rows of the same module in one row, in the order of their first."""
    groups: dict[str, list[LayerRow]] = {}
    for row in rows:
        groups.setdefault(module_of(row.name, depth), []).append(row)
    return [summed(name, members) for name, members in groups.items()]


def module_of(name: str, depth: int) -> str:
    """The first parts of a name, without the last, which is the tensor's own."""
    *modules, _ = name.split(".", depth)
    return ".".join(modules) or name
