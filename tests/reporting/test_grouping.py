import numpy as np
import pytest

import dcomp
from dcomp.container.reader import Container
from dcomp.reporting.grouping import arrange, module_of
from dcomp.reporting.sizes import measure_container


def report_of(tensors):
    return measure_container(Container(dcomp.save(tensors, {})))


def network(rng):
    names = ["stem.weight", "block.0.conv.weight", "block.0.conv.bias", "block.1.conv.weight", "head"]
    return report_of({name: np.arange(2000 + 100 * place, dtype=np.float32) for place, name in enumerate(names)})


def test_rows_are_grouped_by_module_and_add_up(rng):
    report = network(rng)
    one, two = (arrange(report, depth, None, None).rows for depth in (1, 2))
    assert {row.name for row in one} == {"stem", "block", "head"}
    assert {row.name for row in two} == {"stem", "block.0", "block.1", "head"}
    block = next(row for row in one if row.name == "block")
    members = [row for row in report.rows if row.name.startswith("block")]
    assert (block.tensors, block.weights, block.bytes) == (
        3,
        sum(row.weights for row in members),
        sum(row.bytes for row in members),
    )
    assert block.weight_bits_coded == pytest.approx(
        sum(row.weight_bits_coded * row.kept for row in members) / block.kept
    )


def test_a_prefix_of_all_names_does_not_count_in_the_depth():
    names = ["module.stem.weight", "module.block.0.weight", "module.block.1.weight"]
    report = report_of({name: np.arange(50 + place, dtype=np.float32) for place, name in enumerate(names)})
    rows = {depth: [row.name for row in arrange(report, depth, None, None).rows] for depth in (1, 2)}
    assert set(rows[1]) == {"module.stem", "module.block"}
    assert set(rows[2]) == {"module.stem", "module.block.0", "module.block.1"}


def test_a_module_of_tied_tensors_names_the_tie(rng):
    weight = rng.normal(size=(30, 40)).astype(np.float32)
    report = arrange(report_of({"enc.w": weight, "dec.w": weight, "head.w": weight[:3]}), 1, None, None)
    assert {row.name: row.tied_to for row in report.rows} == {"enc": None, "dec": "enc.w", "head": None}


def test_rows_are_sorted_and_the_rest_is_one_row(rng):
    report = network(rng)
    by_size = arrange(report, None, "bytes", 2).rows
    assert [row.bytes for row in by_size[:2]] == sorted((row.bytes for row in report.rows), reverse=True)[:2]
    assert (by_size[2].name, by_size[2].tensors) == ("3 others", 3)
    assert sum(row.bytes for row in by_size) == report.total.bytes
    names = [row.name for row in arrange(report, None, "name", None).rows]
    assert names == sorted(names)
    assert [row.name for row in arrange(report, None, "name", 4).rows][-1] == "1 other"
    assert len(arrange(report, None, "bytes", 5).rows) == 5


@pytest.mark.parametrize(
    ("name", "depth", "module"),
    [("a.b.c.w", 1, "a"), ("a.b.c.w", 3, "a.b.c"), ("a.b.c.w", 9, "a.b.c"), ("w", 2, "w"), ("a.w", 5, "a")],
)
def test_a_module_is_named_by_the_first_parts_of_a_name(name, depth, module):
    assert module_of(name, depth) == module
