"""Figures, by matplotlib, which is installed with the extra `plots`."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcomp.compression.error_curves import Sensitivity, Setting
from dcomp.errors import DcompError, UsageError
from dcomp.reporting.front import RankedPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXIS_NAMES: dict[Setting, str] = {
    "sparsity": "sparsity of that layer (fraction of zeros)",
    "bits": "bits of that layer (2^bits shared values)",
}
PNG = b"\x89PNG"
"""What images begin with."""

ERROR_TICKS = (0, 0.2, 0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)
MARKERS = "osD^vP*X"
DISTINCT_COLOURS = 10
LEGEND_ROWS = 26
MOST_NAMED = 12
"""Points of a front that are labelled with their values; of more, the labels would hide each other."""


def check_possible(path: Path) -> None:
    """Check, before the work, that a figure may be drawn.

    Raises:
        UsageError: the file is not called a PNG image.
        DcompError: matplotlib is not installed.
    """
    if path.suffix != ".png":
        raise UsageError(f"--plot {path}: the image is a PNG, so name it .png")
    try:
        import matplotlib  # noqa: F401  # only whether it is there
    except ImportError as error:
        raise DcompError("a plot needs matplotlib; install it with pip install 'dcomp[plots]'") from error


def sensitivity_png(result: Sensitivity, subject: str) -> bytes:
    """Curves as a PNG image: a panel for sparsities and one for bits, a line for each layer, colours by depth."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    settings = [setting for setting in AXIS_NAMES if result.of(setting)]
    layers = list(dict.fromkeys(curve.layer for curve in result.curves))
    palette = colormaps["tab10" if len(layers) <= DISTINCT_COLOURS else "turbo"]
    colours = palette.resampled(max(len(layers), DISTINCT_COLOURS))
    styles = {
        layer: {"color": colours(place), "marker": MARKERS[place % len(MARKERS)], "label": layer}
        for place, layer in enumerate(layers)
    }
    legend_columns = -(-(len(layers) + 3) // LEGEND_ROWS)
    figure = Figure(figsize=(5 * len(settings) + 2.5 * legend_columns, 5.5), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(settings), squeeze=False, sharey=True)[0]
    for setting, panel in zip(settings, panels, strict=True):
        _draw(panel, result, setting, styles)
    panels[0].set_ylabel("top-1 error of the network (%)")
    figure.suptitle(f"One layer at a time changed, no retraining: {subject}", fontsize="medium")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside right upper", ncols=legend_columns, fontsize="small"
    )
    return _png(figure)


def front_png(points: Sequence[RankedPoint], subject: str) -> bytes:
    """A sweep's errors against bytes as a PNG image; the front is a line, its points labelled with their values."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    front = [point.result for point in points if point.on_front]
    behind = [point.result for point in points if not point.on_front]
    figure = Figure(figsize=(8, 5.5), dpi=150, layout="constrained")
    panel = figure.subplots()
    panel.plot([o.bytes for o in front], [o.top1_error for o in front], "o-", label="front")
    if behind:
        panel.plot([o.bytes for o in behind], [o.top1_error for o in behind], "o", color="grey", label="other points")
    if len(front) <= MOST_NAMED:
        for result in front:
            label = ", ".join(result.values.values())
            place = (result.bytes, result.top1_error)
            panel.annotate(label, place, (4, 4), textcoords="offset points", fontsize="x-small")
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel("bytes of the container")
    panel.set_ylabel("top-1 error (%)")
    panel.set_title(f"{subject}: {', '.join(points[0].result.values)}", fontsize="medium")
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")
    return _png(figure)


def _png(figure: "Figure") -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format="png")
    return image.getvalue()


def _draw(panel: "Axes", result: Sensitivity, setting: Setting, styles: dict[str, dict[str, Any]]) -> None:
    """One panel: harsher amounts to the right, errors on a scale that shows small ones and large ones."""
    curves = result.of(setting)
    for curve in curves:
        amounts = [point.amount for point in curve.points]
        errors = [point.top1_error for point in curve.points]
        panel.plot(amounts, errors, markersize=4, linewidth=1.4, **styles[curve.layer])
    panel.axhline(result.top1_error, color="black", linestyle="--", label=f"unchanged: {result.top1_error:.2f} %")
    if result.planned is not None:
        allowed = result.top1_error + result.planned.max_drop
        panel.axhline(allowed, color="grey", linestyle=":", label=f"allowed: {allowed:.2f} %")
        chosen = result.chosen(setting).values()
        amounts, errors = [point.amount for point in chosen], [point.top1_error for point in chosen]
        panel.plot(amounts, errors, "ko", markersize=10, fillstyle="none", label="in the plan")
    if setting == "bits":
        panel.invert_xaxis()
        panel.set_xticks([point.amount for point in curves[0].points])
    panel.set_xlabel(AXIS_NAMES[setting])
    panel.set_yscale("symlog", linthresh=1, linscale=0.5)
    panel.set_yticks(ERROR_TICKS, [f"{tick:g}" for tick in ERROR_TICKS])
    panel.set_yticks([], minor=True)
    everything = [result.top1_error, *(point.top1_error for curve in result.curves for point in curve.points)]
    panel.set_ylim(0.8 * min(everything), 1.1 * max(*everything, 1))
    panel.grid(alpha=0.3)
