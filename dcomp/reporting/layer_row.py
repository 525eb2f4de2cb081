"""A row of a size report: the figures of one tensor or of several, in the paper's terms.

P is pruning, Q quantization, H Huffman coding. Figures after P+Q+H count bytes in the file. Figures before H are
estimates, by the paper's arithmetic: after P, the kept weights without their positions; after P+Q, for each kept weight
a code and a gap in fields of fixed width, and the codebook.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from dcomp.reporting.paper import PaperRow
from dcomp.reporting.storage import Storage


@dataclass(frozen=True)
class LayerRow:
    """One tensor, or the sum of several.

    The fields but `name` and `tied_to` are sums, so that rows can be added; the properties are computed from them.

    Attributes:
        name: of the tensor.
        tied_to: name of the tensor that has the same bytes, and the record of them; None for a tensor with a record.
        tensors: number of tensors.
        pruned: number of tensors that hold zeros.
        weights: number of elements.
        kept: number of elements that are not zero.
        coded: number of kept elements that take bits in the file: all but those of tied tensors.
        dense_bytes: bytes before compression.
        bytes: bytes of the records.
        index_bytes: bytes of the positions in the records, code tables and density classes included.
        fillers: number of entries that only bridge a gap.
        pruned_bits: estimated bits after P.
        code_bits: estimated bits of all codes after P+Q: log2 of the codebook's size, or the width of the dtype.
        gap_bits: estimated bits of all gaps after P+Q, fillers included.
        codebook_bits: estimated bits of the codebooks after P+Q; 0 where the elements themselves are smaller.
        storage: where the bytes of the records go.
    """

    name: str
    tied_to: str | None = None
    tensors: int = 0
    pruned: int = 0
    weights: int = 0
    kept: int = 0
    coded: int = 0
    dense_bytes: int = 0
    bytes: int = 0
    index_bytes: int = 0
    fillers: int = 0
    pruned_bits: int = 0
    code_bits: int = 0
    gap_bits: int = 0
    codebook_bits: int = 0
    storage: Storage = field(default_factory=Storage)

    @property
    def kept_percent(self) -> float:
        """Return the percentage of elements that are not zero."""
        return 100 * self.kept / self.weights if self.weights else 0.0

    @property
    def weight_bits(self) -> float | None:
        """Return the estimated bits of a kept weight after P+Q; None if no weight takes bits."""
        return self.code_bits / self.coded if self.coded else None

    @property
    def weight_bits_coded(self) -> float | None:
        """Return the bits of a kept weight in the file, of all but the positions; None if no weight takes bits."""
        return 8 * (self.bytes - self.index_bytes) / self.coded if self.coded else None

    @property
    def index_bits(self) -> float | None:
        """Return the estimated bits of a kept weight's index after P+Q; None where nothing is zero."""
        return self.gap_bits / self.coded if self.coded and self.pruned else None

    @property
    def index_bits_coded(self) -> float | None:
        """Return the bits of a kept weight's index in the file, 0 where zero has a code; None where nothing is zero."""
        return 8 * self.index_bytes / self.coded if self.coded and self.pruned else None

    @property
    def estimated_ratio_pruned(self) -> float | None:
        """Return the dense bytes over the estimate after P."""
        return 8 * self.dense_bytes / self.pruned_bits if self.pruned_bits else None

    @property
    def estimated_ratio_shared(self) -> float | None:
        """Return the dense bytes over the estimate after P+Q."""
        estimate = self.code_bits + self.gap_bits + self.codebook_bits
        return 8 * self.dense_bytes / estimate if estimate else None

    @property
    def ratio(self) -> float | None:
        """Return the dense bytes over the bytes in the file, after P+Q+H."""
        return self.dense_bytes / self.bytes if self.bytes else None

    def as_dict(self, paper_row: PaperRow | None = None) -> dict[str, object]:
        """Return the figures, the storage, and the paper's row as plain data."""
        figures = {figure.name: getattr(self, figure.name) for figure in FIGURES}
        paper = None if paper_row is None else paper_row.as_dict()
        return {"name": self.name, "tied_to": self.tied_to, **figures, "storage": asdict(self.storage), "paper": paper}


SUMMED = [summand.name for summand in fields(LayerRow) if summand.name not in ("name", "tied_to", "storage")]


def sum_rows(title: str, rows: Sequence[LayerRow]) -> LayerRow:
    """Return the sum of rows, named `title`; it is tied if all of them are tied to the same tensor."""
    ties = {row.tied_to for row in rows}
    sums = {name: sum(getattr(row, name) for row in rows) for name in SUMMED}
    storage = Storage.sum(row.storage for row in rows)
    return LayerRow(title, ties.pop() if len(ties) == 1 else None, **sums, storage=storage)


def bits_text(bits: float | None) -> str:
    """Return a number of bits with two decimals."""
    return "" if bits is None else f"{bits:.2f}"


def ratio_text(ratio: float | None) -> str:
    """Return a ratio with two decimals, a large one with none."""
    return "" if ratio is None else f"{ratio:.2f}x" if ratio < 1000 else f"{ratio:,.0f}x"


def paper_ratio_text(ratio: float) -> str:
    """Return a ratio with the three digits that the paper's percentages allow."""
    return f"{ratio:.3g}x"


def paper_count_text(weights: int) -> str:
    """Return a number of weights as the paper prints it."""
    return f"{weights / 1_000_000:g}M" if weights >= 1_000_000 else f"{weights / 1000:g}K"


@dataclass(frozen=True)
class Figure:
    """A figure of a row.

    Attributes:
        name: of the attribute of `LayerRow` that computes it, of its key in JSON, and of its column in CSV.
        title: of its column in tables; None keeps it out of tables. `PaperRow` has an attribute of the same name for
            every figure that has a title.
        text: turns its value into the text of a cell.
        paper_text: turns the paper's value into the text of a cell.
    """

    name: str
    title: str | None = None
    text: Callable[[Any], str] = str
    paper_text: Callable[[Any], str] = "{:g}".format


FIGURES = (
    Figure("tensors"),
    Figure("weights", "weights", "{:,}".format, paper_count_text),
    Figure("kept"),
    Figure("kept_percent", "kept %", bits_text),
    Figure("weight_bits", "weight bits P+Q", lambda bits: "" if bits is None else f"{bits:.3g}"),
    Figure("weight_bits_coded", "weight bits P+Q+H", bits_text),
    Figure("index_bits", "index bits P+Q", bits_text),
    Figure("index_bits_coded", "index bits P+Q+H", bits_text),
    Figure("fillers"),
    Figure("dense_bytes"),
    Figure("bytes"),
    Figure("estimated_ratio_pruned", "est. ratio P", ratio_text, paper_ratio_text),
    Figure("estimated_ratio_shared", "est. ratio P+Q", ratio_text, paper_ratio_text),
    Figure("ratio", "ratio P+Q+H", ratio_text, paper_ratio_text),
)
"""All figures of a row, in the order of JSON, CSV and the tables."""

TABLE_FIGURES = tuple(figure for figure in FIGURES if figure.title is not None)
