"""Plots by matplotlib, which the extra `plots` installs."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcomp.compression.error_curves import CurvePoint, Sensitivity, Setting
from dcomp.errors import DcompError, UsageError
from dcomp.progress.measurement import PERCENTAGES, Judge
from dcomp.reporting.front import RankedPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXIS_NAMES: dict[Setting, str] = {
    "sparsity": "sparsity of that layer (fraction of zeros)",
    "bits": "bits of that layer (2^bits shared values)",
}
PNG = b"\x89PNG"
"""The first bytes of a PNG image."""

ERROR_TICKS = (0, 0.2, 0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)
MARKERS = "osD^vP*X"
DISTINCT_COLOURS = 10
LEGEND_ROWS = 26
MOST_NAMED = 12
"""Points of a front up to which each has a label with its values; more labels would hide each other."""


def check_possible(path: Path) -> None:
    """Check that a plot can be drawn, before the work begins.

    Raises:
        UsageError: the name of the file does not end in .png.
        DcompError: matplotlib is not installed.
    """
    if path.suffix != ".png":
        raise UsageError(f"--plot {path}: the image is a PNG, so name it .png")
    try:
        import matplotlib  # noqa: F401  # only whether it is there
    except ImportError as error:
        raise DcompError("a plot needs matplotlib; install it with pip install 'dcomp[plots]'") from error


def sensitivity_png(result: Sensitivity, subject: str) -> bytes:
    """Return curves as a PNG image: a panel for sparsities and one for bits, a line for each layer."""
    from matplotlib.figure import Figure

    settings = [setting for setting in AXIS_NAMES if result.curves_of(setting)]
    styles = _line_styles(list(dict.fromkeys(curve.layer for curve in result.curves)))
    legend_columns = -(-(len(styles) + 3) // LEGEND_ROWS)
    figure = Figure(figsize=(5 * len(settings) + 2.5 * legend_columns, 5.5), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(settings), squeeze=False, sharey=True)[0]
    for setting, panel in zip(settings, panels, strict=True):
        _draw_curves(panel, result, setting, styles)
    panels[0].set_ylabel(_axis_name(result.judge, " of the network"))
    figure.suptitle(f"One layer at a time changed, no retraining: {subject}", fontsize="medium")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside right upper", ncols=legend_columns, fontsize="small"
    )
    return _png(figure)


def _line_styles(layers: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the colour, the marker and the label of each layer; colours go by depth where there are many."""
    from matplotlib import colormaps

    palette = colormaps["tab10" if len(layers) <= DISTINCT_COLOURS else "turbo"]
    colours = palette.resampled(max(len(layers), DISTINCT_COLOURS))
    return {
        layer: {"color": colours(place), "marker": MARKERS[place % len(MARKERS)], "label": layer}
        for place, layer in enumerate(layers)
    }


def _draw_curves(panel: "Axes", result: Sensitivity, setting: Setting, styles: dict[str, dict[str, Any]]) -> None:
    """Draw one panel: harsher amounts to the right, errors on a scale that shows small ones and large ones."""
    curves = result.curves_of(setting)
    for curve in curves:
        _draw_line(panel, curve.points, markersize=4, linewidth=1.4, **styles[curve.layer])
    panel.axhline(result.error, color="black", linestyle="--", label=f"unchanged: {result.judge.text(result.error)}")
    if result.planned is not None:
        allowed = result.judge.cost(result.judge.cost(result.error) + result.planned.max_drop)
        panel.axhline(allowed, color="grey", linestyle=":", label=f"allowed: {result.judge.text(allowed)}")
        in_plan = list(result.planned_points(setting).values())
        _draw_line(panel, in_plan, "ko", markersize=10, fillstyle="none", label="in the plan")
    if setting == "bits":
        panel.invert_xaxis()
        panel.set_xticks([point.amount for point in curves[0].points])
    panel.set_xlabel(AXIS_NAMES[setting])
    _draw_error_axis(panel, result)
    panel.grid(alpha=0.3)


def _draw_line(panel: "Axes", points: Sequence[CurvePoint], *style: Any, **styles: Any) -> None:
    panel.plot([point.amount for point in points], [point.error for point in points], *style, **styles)


def _draw_error_axis(panel: "Axes", result: Sensitivity) -> None:
    """Give all panels the same scale of errors in percent; other metrics have the scale that matplotlib chooses."""
    if result.judge.metric not in PERCENTAGES:
        return
    panel.set_yscale("symlog", linthresh=1, linscale=0.5)
    panel.set_yticks(ERROR_TICKS, [f"{tick:g}" for tick in ERROR_TICKS])
    panel.set_yticks([], minor=True)
    errors = [result.error, *(point.error for curve in result.curves for point in curve.points)]
    panel.set_ylim(0.8 * min(errors), 1.1 * max(*errors, 1))


def front_png(points: Sequence[RankedPoint], subject: str) -> bytes:
    """Return the errors of a sweep against bytes as a PNG image; the front is a line with labels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.5), dpi=150, layout="constrained")
    panel = figure.subplots()
    _draw_points(panel, points)
    _draw_byte_axis(panel)
    panel.set_ylabel(_axis_name(points[0].result.measured.judge))
    panel.set_title(f"{subject}: {', '.join(points[0].result.values)}", fontsize="medium")
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")
    return _png(figure)


def _axis_name(judge: Judge, owner: str = "") -> str:
    """Return the metric's name and unit, as the name of an axis."""
    unit = " (%)" if judge.metric in PERCENTAGES else ""
    return f"{judge.title}{owner}{unit}"


def _draw_points(panel: "Axes", points: Sequence[RankedPoint]) -> None:
    front = [point.result for point in points if point.on_front]
    behind = [point.result for point in points if not point.on_front]
    panel.plot([r.bytes for r in front], [r.measured.judged for r in front], "o-", label="front")
    if behind:
        panel.plot(
            [r.bytes for r in behind], [r.measured.judged for r in behind], "o", color="grey", label="other points"
        )
    for result in front if len(front) <= MOST_NAMED else []:
        label, place = ", ".join(result.values.values()), (result.bytes, result.measured.judged)
        panel.annotate(label, place, (4, 4), textcoords="offset points", fontsize="x-small")


def _draw_byte_axis(panel: "Axes") -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel("bytes of the container")


def _png(figure: "Figure") -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format="png")
    return image.getvalue()
