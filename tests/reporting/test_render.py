"""Every table of the command line fits 60 and 80 columns, whatever it holds."""

import csv
import io
import sys

import numpy as np
import pytest
from rich.cells import cell_len

import dcomp
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.compression.error_curves import Curve, CurvePoint, PlanResult, Sensitivity
from dcomp.container.reader import Container
from dcomp.progress.measurement import Measurement
from dcomp.reporting import listing, render, size_tables, sizes, tables
from dcomp.reporting.benchmark import BenchmarkRow
from dcomp.reporting.front import PointResult, RankedPoint
from dcomp.settings.plan import Plan

LAYERS = [f"model.layers.{number}.mlp.gate_up_proj.weight" for number in range(5)]
AMOUNTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
LARGE = 12_345_678_901


def curves(setting):
    points = tuple(
        CurvePoint(amount if setting == "sparsity" else place + 2, 88.88, 1) for place, amount in enumerate(AMOUNTS)
    )
    return tuple(Curve(layer, LARGE, setting, points) for layer in LAYERS)


def sensitivity():
    planned = PlanResult(Plan(dict.fromkeys(LAYERS, 0.9), dict.fromkeys(LAYERS, 3)), 0.5, 0.2, 1.0)
    return Sensitivity(1.0, 0.1, 100, (*curves("sparsity"), *curves("bits")), planned)


def front():
    values = {"prune.1.target_ratio": "285", "checkpoint": "runs/with/a/rather/long/path/to/a/checkpoint.safetensors"}
    measured = Measurement({"top1_error": 12.34, "loss": 1})
    return [
        RankedPoint(PointResult({**values, "seed": str(seed)}, LARGE, 1234.5, measured, 0.9, 100), on_front=True)
        for seed in range(3)
    ], [*values, "seed"]


def checkpoint():
    return {layer: np.eye(100, 120, dtype=np.float32) * place for place, layer in enumerate(LAYERS)}


def stages():
    names = {"stage": "quantize.2", "file": "quantize.2.safetensors"}
    figures = {"bytes": LARGE, "kept_percent": 12.345, "top1_error": 98.765, "seconds": 123_456.7}
    return [{**names, **figures}, {**names, **figures, "stage": "encode", "top1_error": None}]


TABLES = {
    "run": lambda: [render.summary_table(stages(), 9 * LARGE)],
    "sweep": lambda: [render.front_table(*front())],
    "bench": lambda: [render.benchmark_table([BenchmarkRow("safetensors", LARGE, 1.0, 12_345, 23_456)])],
    "sensitivity": lambda: [render.curve_table(sensitivity(), setting) for setting in ("sparsity", "bits")],
    "plan": lambda: [render.plan_table(sensitivity())],
    "inspect": lambda: [
        render.container_table(listing.list_container(Container(dcomp.save(checkpoint())))),
        render.checkpoint_table(listing.list_checkpoint(Checkpoint(checkpoint()))),
        render.metadata_table({"dcomp.architecture": "x" * 200}),
    ],
    "report": lambda: size_tables.report_tables(sizes.measure_container(Container(dcomp.save(checkpoint())))),
}


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("name", TABLES)
def test_a_table_fits_and_shows_every_figure_and_every_word(monkeypatch, name, columns):
    for table in TABLES[name]():
        out = io.StringIO()
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setenv("COLUMNS", str(columns))
        tables.print_tables(table)
        assert max(map(cell_len, out.getvalue().splitlines())) <= columns
        words = out.getvalue().split()
        for column, cells in zip(table.columns, zip(*table.rows, strict=True), strict=True):
            assert set(column.title.split()) <= set(words)
            if column.kind in ("figure", "text"):
                assert {word for cell in cells for word in cell.split()} <= set(words)


def test_a_long_report_sums_the_last_rows_and_csv_lists_all(capsys):
    count = size_tables.MOST_ROWS + 50
    names = [f"{number}." + "x" * 500 for number in range(count)]
    container = Container(
        dcomp.save({name: np.arange(3, dtype=np.uint8) + place % 7 for place, name in enumerate(names)})
    )
    report = sizes.measure_container(container)
    size_tables.print_report(report)
    out = capsys.readouterr().out
    assert f"{names[0][:200]}...{names[0][-200:]} " in out
    assert sum(line.startswith("50 others ") for line in out.splitlines()) == 2
    assert names[-1][:200] not in out
    listed = [row["name"] for row in csv.DictReader(io.StringIO(size_tables.as_csv(report)))]
    assert listed[:count] == names


def test_a_run_that_measures_nothing_has_no_column_of_errors():
    unmeasured = [{**stage, "top1_error": None} for stage in stages()]
    assert [column.title for column in render.summary_table(unmeasured, LARGE).columns] == [
        *("stage", "file", "bytes", "ratio", "kept %", "seconds")
    ]
