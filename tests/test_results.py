"""What the results in sample_configs say of themselves, held against the files."""

import csv
import json
import os
from pathlib import Path

import pytest

from dcomp import stages
from dcomp.container.reader import Container
from dcomp.progress.measurement import Measurement
from dcomp.reporting.front import PointResult, rank_points
from dcomp.settings import EvalSettings, recipe

CONFIGS = Path(__file__).parents[1] / "sample_configs"
RESULTS = sorted((CONFIGS / "results").glob("*.dcz"))


def summary_of(path):
    return json.loads(path.with_suffix(".json").read_text())


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of Imagenette's photos of 160 pixels; what needs them is skipped where they are not."""
    for folder in (os.environ.get("DCOMP_DATA"), Path(__file__).parents[2] / "shared" / "data"):
        if folder and (Path(folder) / "imagenette-160" / "val").is_dir():
            return Path(folder) / "imagenette-160"
    pytest.skip("imagenette-160 is neither in $DCOMP_DATA nor in ../shared/data")


def test_there_are_results():
    records = {"lenet300", "lenet5", "lenet300-plain", "lenet5-plain"}
    assert {"alexnet-imagenette", *records} <= {path.stem for path in RESULTS}


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_has_the_bytes_and_the_ratio_of_its_summary(path):
    summary = summary_of(path)
    assert path.stat().st_size == summary["stages"][-1]["bytes"]
    assert stages.report(Container.open(path)).ratio == summary["ratio"]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_summary_holds_the_figures_of_a_report(path):
    report = stages.report(Container.open(path))
    assert summary_of(path)["sizes"] == report.as_dict()
    assert report.total.kept_percent == Container.open(path).checkpoint().kept_percent()


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_is_within_the_bounds_of_its_recipe(path):
    summary = summary_of(path)
    bounds = recipe.load(CONFIGS / f"{summary['name']}.yaml")
    dense, *_, encoded = summary["stages"]
    assert (dense["stage"], encoded["stage"]) == ("train", "encode")
    assert summary["ratio"] >= bounds.report.min_ratio
    assert encoded["top1_error"] <= (bounds.eval.max_error or dense["top1_error"])


@pytest.mark.parametrize("path", [path for path in RESULTS if "lenet" in path.stem], ids=lambda path: path.stem)
def test_a_result_on_mnist_has_the_error_of_its_summary(path, mnist_dir):
    found = stages.evaluate(Container.open(path).checkpoint(), EvalSettings(data="mnist", data_dir=mnist_dir))
    assert found.count == 10_000
    # another processor, or another build of torch, may round an image or two to the other side
    assert found.judged == pytest.approx(summary_of(path)["stages"][-1]["top1_error"], abs=0.03)


def test_alexnet_has_the_error_of_its_summary(photos):
    (path,) = [path for path in RESULTS if path.stem == "alexnet-imagenette"]
    checkpoint = Container.open(path).checkpoint()
    found = stages.evaluate(checkpoint, EvalSettings(data=f"imagefolder:{photos}", device="cpu", workers=0))
    assert found.count == 3925
    # another processor, or another build of torch, may round an example to the other side
    assert found.judged == pytest.approx(summary_of(path)["stages"][-1]["top1_error"], abs=0.1)


@pytest.mark.parametrize("network", ["lenet300", "lenet5"])
def test_a_front_goes_from_near_the_papers_ratio_to_beyond_the_record_and_tells_what_is_on_it(network):
    with (CONFIGS / "results" / f"front-{network}.csv").open() as file:
        rows = list(csv.DictReader(file))
    points = [
        PointResult(
            {"prune.1.target_ratio": row["prune.1.target_ratio"]},
            int(row["bytes"]),
            float(row["ratio"]),
            Measurement({name: float(row[name]) for name in ("top1_error", "top5_error")}),
            float(row["sparsity"]),
            float(row["seconds"]),
        )
        for row in rows
    ]
    assert [(point.result, point.on_front) for point in rank_points(points)] == [
        (point, row["on_front"] == "1") for point, row in zip(points, rows, strict=True)
    ]
    record = summary_of(CONFIGS / "results" / f"{network}.dcz")["ratio"]
    assert min(point.ratio for point in points) < 45
    assert max(point.ratio for point in points) > record
