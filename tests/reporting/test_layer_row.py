import csv
import io
import json

import numpy as np
import pytest

import dcomp
from dcomp.container.reader import Container
from dcomp.reporting import size_tables
from dcomp.reporting.layer_row import FIGURES, TABLE_FIGURES, LayerRow, sum_rows
from dcomp.reporting.paper import PAPER
from dcomp.reporting.sizes import measure_container
from dcomp.reporting.storage import Storage


@pytest.fixture
def report(rng):
    fc1 = np.where(rng.random((300, 784)) < 0.08, rng.choice([-1, 1, 2], (300, 784)), 0).astype(np.float32)
    return measure_container(Container(dcomp.save({"fc1.weight": fc1}, {"dcomp.architecture": "lenet300"})))


def test_each_figure_is_in_json_and_csv(report):
    row = json.loads(json.dumps(report.as_dict()))["tensors"][0]
    columns = csv.DictReader(io.StringIO(size_tables.as_csv(report))).fieldnames
    for figure in FIGURES:
        assert row[figure.name] == getattr(report.rows[0], figure.name)
        assert figure.name in columns


def test_each_figure_with_a_title_is_a_column(report):
    table, _ = size_tables.report_tables(report)
    assert [column.title for column in table.columns[1:]] == [figure.title for figure in TABLE_FIGURES]
    paper_row = PAPER["lenet300"].layers["fc1"]
    assert table.rows[1][1:] == tuple(figure.paper_text(getattr(paper_row, figure.name)) for figure in TABLE_FIGURES)


def test_a_sum_is_tied_if_all_rows_are_tied_to_one_tensor():
    tied = LayerRow("a", "w", tensors=1, weights=3)
    assert sum_rows("both", [tied, LayerRow("b", "w", tensors=1, weights=4)]) == LayerRow("both", "w", 2, weights=7)
    assert sum_rows("both", [tied, LayerRow("w", tensors=1, storage=Storage(values=2))]).tied_to is None


def test_an_empty_row_has_no_ratio_and_no_bits():
    row = LayerRow("nothing")
    assert (row.ratio, row.weight_bits, row.index_bits_coded, row.kept_percent) == (None, None, None, 0)
