"""Fewer rows of a size report: tensors of a module in one row, rows in another order, the small ones in one."""

import os
from collections.abc import Sequence
from dataclasses import replace

from dcomp.reporting.layer_row import LayerRow, sum_rows
from dcomp.reporting.sizes import SizeReport


def arrange(report: SizeReport, depth: int | None, key: str | None, top: int | None) -> SizeReport:
    """Return a report with its rows grouped by module, sorted, and all but the first of them in one.

    Args:
        report: the report to arrange; its total stays.
        depth: how many parts of a name, between dots, name a module; None leaves tensors apart.
        key: `name` sorts rows upward; a sum of the row, its kept percentage or its ratio sorts them downward.
        top: how many rows stay; None keeps all.
    """
    rows = report.rows if depth is None else group_by_module(report.rows, depth)
    if key is not None:
        rows = _sort(rows, key)
    if top is not None and len(rows) > top:
        rows = _sum_rest(rows, top)
    return replace(report, rows=rows)


def group_by_module(rows: Sequence[LayerRow], depth: int) -> list[LayerRow]:
    """Return one row for each module, in the order of their first tensors.

    The parts that all names begin with, like `model.`, do not count in `depth`: they tell no modules apart.
    """
    shared_parts = os.path.commonprefix([row.name for row in rows]).count(".")  # noqa: RUF071  # whole parts count
    groups: dict[str, list[LayerRow]] = {}
    for row in rows:
        groups.setdefault(module_of(row.name, shared_parts + depth), []).append(row)
    return [sum_rows(name, members) for name, members in groups.items()]


def module_of(name: str, depth: int) -> str:
    """Return the first `depth` parts of a tensor's name, without the last part, which names the tensor alone."""
    *modules, _ = name.split(".", depth)
    return ".".join(modules) or name


def _sort(rows: Sequence[LayerRow], key: str) -> list[LayerRow]:
    if key == "name":
        return sorted(rows, key=lambda row: row.name)
    return sorted(rows, key=lambda row: getattr(row, key) or 0, reverse=True)


def _sum_rest(rows: Sequence[LayerRow], top: int) -> list[LayerRow]:
    rest = rows[top:]
    return [*rows[:top], sum_rows(f"{len(rest)} other{'s' * (len(rest) > 1)}", rest)]
