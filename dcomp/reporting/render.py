"""Results of commands as tables for the terminal, curves and fronts also as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from dcomp.compression.error_curves import CurvePoint, Sensitivity, Setting
from dcomp.progress.measurement import LOSS, TOP1_ERROR, Judge
from dcomp.reporting.benchmark import BenchmarkRow
from dcomp.reporting.front import FIRST_FIGURES, RankedPoint
from dcomp.reporting.layer_row import ratio_text
from dcomp.reporting.listing import CheckpointListing, ContainerListing
from dcomp.reporting.tables import Column, Table
from dcomp.reporting.text import printable

EXCERPT_LENGTH = 60
"""Characters of a metadata value that are shown."""

MOST_TENSORS, MOST_KEYS = 5000, 1000
"""Rows of tensors and of metadata in the tables of `inspect` at most."""


def container_table(listing: ContainerListing) -> Table:
    """Return a row for each tensor of a container, its header, and the whole file."""
    figures = ("dense bytes", "bytes", "ratio", "offset", "CRC-32")
    words = (Column("dtype"), Column("shape"), Column("encoding", "text"))
    table = Table([Column("tensor", "name"), *words, *map(Column, figures)])
    for line in listing.tensors[:MOST_TENSORS]:
        offset = f"{line.offset:,}" if line.bytes else ""
        sizes = [f"{line.dense_bytes:,}", f"{line.bytes:,}", ratio_text(line.ratio), offset, line.crc]
        table.add(line.name, line.dtype, _shape(line.shape), line.encoding, *sizes)
    _add_hidden(table, len(listing.tensors) - MOST_TENSORS, columns=9)
    table.add("header, metadata", "", "", "", "", f"{listing.header_bytes:,}", "", "0", "")
    sizes = [f"{listing.dense_bytes:,}", f"{listing.file_bytes:,}", ratio_text(listing.ratio), "", ""]
    table.add("whole file", "", "", f"version {listing.version}", *sizes, style="bold")
    return table


def checkpoint_table(listing: CheckpointListing) -> Table:
    """Return a row for each tensor of an uncompressed checkpoint, and their sum."""
    table = Table([Column("tensor", "name"), *map(Column, ("dtype", "shape", "elements", "bytes", "kept %"))])
    for line in listing.tensors[:MOST_TENSORS]:
        figures = (f"{line.elements:,}", f"{line.bytes:,}", f"{line.kept_percent:.2f}")
        table.add(line.name, line.dtype, _shape(line.shape), *figures)
    _add_hidden(table, len(listing.tensors) - MOST_TENSORS, columns=6)
    figures = (f"{listing.elements:,}", f"{listing.bytes:,}", f"{listing.kept_percent:.2f}")
    table.add("all", "", f"{len(listing.tensors):,} tensors", *figures, style="bold")
    return table


def _add_hidden(table: Table, count: int, columns: int) -> None:
    """Add a row that says how many rows are left out, if some are."""
    if count > 0:
        table.add(f"and {count:,} more; --json lists all", *[""] * (columns - 1))


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "scalar"


def metadata_table(metadata: Mapping[str, str]) -> Table:
    """Return a row for each key: the bytes of its value, and the beginning of the value."""
    table = Table([Column("metadata", "name"), Column("bytes"), Column("value", "excerpt")])
    for key, value in islice(metadata.items(), MOST_KEYS):
        short = value if len(value) <= EXCERPT_LENGTH else f"{value[:EXCERPT_LENGTH]}..."
        table.add(key, f"{len(value.encode()):,}", short)
    _add_hidden(table, len(metadata) - MOST_KEYS, columns=3)
    return table


def benchmark_table(rows: Sequence[BenchmarkRow]) -> Table:
    """Return a row for each codec."""
    figures = ("bytes", "ratio", "compress MB/s", "decompress MB/s")
    table = Table([Column("codec", "name"), *map(Column, figures)])
    for row in rows:
        table.add(row.codec, f"{row.bytes:,}", f"{row.ratio:.2f}x", f"{row.compress:,.0f}", f"{row.decompress:,.0f}")
    return table


def curve_table(result: Sensitivity, setting: Setting) -> Table:
    """Return a row for each layer: the error of the network at each amount."""
    curves = result.curves_of(setting)
    amounts = [Column(f"{point.amount:g}") for point in curves[0].points]
    table = Table([Column(f"{result.judge.heading} at {setting}", "name"), *amounts])
    for curve in curves:
        table.add(curve.layer, *(result.judge.figure(point.error) for point in curve.points))
    return table


def plan_table(result: Sensitivity) -> Table:
    """Return a row for each layer: its part of the plan, and the error of the network with that part alone."""
    alone = f"{result.judge.short_heading} alone"
    figures = ("weights", "sparsity", alone, "bits", alone)
    table = Table([Column("plan", "name"), *map(Column, figures)])
    weights = {curve.layer: curve.weights for curve in result.curves}
    pruned, shared = result.planned_points("sparsity"), result.planned_points("bits")
    for layer, count in weights.items():
        points = [chosen.get(layer) for chosen in (pruned, shared)]
        cells = [text for point in points for text in _point_cells(point, result.judge)]
        table.add(layer, f"{count:,}", *cells)
    total = sum(weights.values())
    sparsity = sum(weights[layer] * point.amount for layer, point in pruned.items()) / total
    table.add("all", f"{total:,}", f"{sparsity:.3g}", "", "", "", style="bold")
    return table


def _point_cells(point: CurvePoint | None, judge: Judge) -> tuple[str, str]:
    return ("", "") if point is None else (f"{point.amount:g}", judge.figure(point.error))


def curves_csv(result: Sensitivity) -> str:
    """Return a line for each point of each curve."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = dict.fromkeys(("amount", result.judge.metric, LOSS))
    writer.writerow(("layer", "weights", "setting", *columns))
    for curve in result.curves:
        for point in curve.points:
            figures = point.as_dict(result.judge).values()
            writer.writerow((printable(curve.layer), curve.weights, curve.setting, *figures))
    return buffer.getvalue().rstrip("\n")


def front_table(points: Sequence[RankedPoint], keys: Sequence[str]) -> Table:
    """Return a row for each point of a sweep, with its values of `keys`; a star marks the front."""
    judge = points[0].result.measured.judge if points else TOP1_ERROR
    figures = [Column(title) for title in ("bytes", "ratio", judge.heading, "front")]
    table = Table([*(Column(key, "name") for key in keys), *figures])
    for point in points:
        result = point.result
        sizes = (f"{result.bytes:,}", f"{result.ratio:.2f}x", judge.figure(result.measured.judged))
        table.add(*result.values.values(), *sizes, "*" if point.on_front else "")
    return table


def front_csv(points: Sequence[RankedPoint], keys: Sequence[str]) -> str:
    """Return a line for each point of a sweep, `on_front` being 0 or 1; without points the first columns' names."""
    buffer = io.StringIO()
    columns = points[0].as_dict() if points else (*keys, *FIRST_FIGURES)
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**point.as_dict(), "on_front": int(point.on_front)} for point in points)
    return buffer.getvalue()


def summary_table(stages: Sequence[Mapping[str, Any]], dense_bytes: int) -> Table:
    """Return a row for each stage of a run: its file, its size, and the error of the network if it was measured.

    Args:
        stages: the `stages` of a run's summary.
        dense_bytes: bytes of the dense tensors, which ratios divide by the bytes of a file.
    """
    judge = Judge(stages[0].get("judge", TOP1_ERROR.metric))
    is_measured = any(stage[judge.metric] is not None for stage in stages)
    figures = ("bytes", "ratio", "kept %", *([judge.heading] if is_measured else []), "seconds")
    table = Table([Column("stage", "name"), Column("file", "name"), *map(Column, figures)])
    for stage in stages:
        error = stage[judge.metric]
        table.add(
            stage["stage"],
            stage["file"],
            f"{stage['bytes']:,}",
            f"{dense_bytes / stage['bytes']:.2f}x",
            f"{stage['kept_percent']:.2f}",
            *(["" if error is None else judge.figure(error)] if is_measured else []),
            f"{stage['seconds']:.1f}",
        )
    return table
