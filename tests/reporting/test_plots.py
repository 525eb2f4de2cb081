import builtins
import io
from pathlib import Path

import pytest

from dcomp.compression.error_curves import Curve, CurvePoint, PlanResult, Sensitivity
from dcomp.errors import DcompError
from dcomp.reporting import plots
from dcomp.settings.plan import Plan


def result(layers, settings=("sparsity", "bits"), planned=None):
    amounts = {"sparsity": (0.5, 0.9), "bits": (8, 1)}
    curves = tuple(
        Curve(f"layer{i}.weight", 10, setting, tuple(CurvePoint(amount, 5.0 * i, 0.1) for amount in amounts[setting]))
        for i in range(layers)
        for setting in settings
    )
    return Sensitivity(0.0, 0.1, 100, curves, planned)


def shape(png):
    image = pytest.importorskip("matplotlib.image").imread(io.BytesIO(png))
    return image.shape[:2]


def test_a_figure_has_a_panel_for_each_setting_measured():
    both, one = shape(plots.sensitivity_png(result(3), "x")), shape(plots.sensitivity_png(result(3, ["bits"]), "x"))
    assert both[0] == one[0]
    assert both[1] == one[1] + 5 * 150


def test_the_legend_of_a_deep_network_has_room():
    deep = shape(plots.sensitivity_png(result(60), "x"))
    assert deep[1] == shape(plots.sensitivity_png(result(3), "x"))[1] + 2 * 2.5 * 150


def test_a_plan_shows_in_the_figure():
    planned = PlanResult(Plan({"layer1.weight": 0.5}, {"layer1.weight": 8}), 10.0, 5.0, 5.0)
    assert plots.sensitivity_png(result(2, planned=planned), "x") != plots.sensitivity_png(result(2), "x")


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    original = builtins.__import__

    def refuse(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(DcompError, match=r"pip install 'dcomp\[plots\]'"):
        plots.check_possible(Path("front.png"))
