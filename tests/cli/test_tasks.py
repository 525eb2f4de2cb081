"""Tasks of the user by the command line: a segmentation network and a language model, small, through every stage."""

import csv
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PIXELS = """
from functools import partial
from sample_configs import segmentation
network = partial(segmentation.UNet, 4)
task = partial(segmentation.task, 96, 32)
"""

TEXT = """
from functools import partial
from sample_configs import language_model
network = language_model.network
task = partial(language_model.task, 6400)
"""

NETWORK = ["--arch", "mine:network", "--data", "mine:task"]
TRAINING = ["--epochs", "1", "--batch-size", "32", "--optimizer", "adamw", "--lr", "0.005"]
SEGMENTS = [*NETWORK, "-q"]


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write a module `mine` into the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.delitem(sys.modules, "mine", raising=False)

    def write(code):
        (tmp_path / "mine.py").write_text(code)
        return tmp_path

    yield write
    sys.modules.pop("mine", None)


def run(dcomp, *arguments):
    code, out, err = dcomp(*arguments)
    assert code == 0, err
    return out


@pytest.mark.parametrize(
    ("code", "judge", "lower_is_better", "share"),
    [(PIXELS, "iou", False, ["--conv-bits", "6"]), (TEXT, "bits_per_byte", True, ["--bits", "6"])],
    ids=["segmentation", "language model"],
)
def test_a_task_goes_through_every_command(dcomp, written, code, judge, lower_is_better, share):
    written(code)
    trained = json.loads(
        run(dcomp, "train", "mine:network", "--data", "mine:task", *TRAINING, "-o", "a.safetensors", "--json")
    )
    assert trained["kept_epoch"]["judge"] == judge
    assert trained["epochs"][0][f"val_{judge}"] == trained["kept_epoch"][f"val_{judge}"]
    run(
        dcomp, "prune", "a.safetensors", "--sparsity", "0.5", "--until", "0", *TRAINING, *NETWORK, "-o", "p.safetensors"
    )
    run(dcomp, "finetune", "p.safetensors", *TRAINING, *NETWORK, "-o", "f.safetensors", "--log", "f.csv")
    with Path("f.csv").open() as file:
        [row] = csv.DictReader(file)
    assert float(row[f"val_{judge}"]) > 0
    run(dcomp, "quantize", "f.safetensors", *share, *TRAINING, *NETWORK, "-o", "q.safetensors")
    run(dcomp, "encode", "q.safetensors", "-o", "q.dcz")
    measured = json.loads(run(dcomp, "eval", "q.dcz", *NETWORK, "--json"))
    assert (measured["judge"], measured["lower_is_better"]) == (judge, lower_is_better)
    assert {judge, "loss", "count"} <= set(measured)
    assert f"{judge:<{max(len(judge), 8)}}" in run(dcomp, "eval", "q.dcz", *NETWORK)


@pytest.fixture
def segmented(dcomp, written):
    """A folder with the checkpoint of a small segmentation network, and the module of its task."""
    folder = written(PIXELS)
    run(dcomp, "train", "mine:network", "--data", "mine:task", *TRAINING, "-o", "a.safetensors")
    return folder


def test_bounds_of_metrics_are_gates(dcomp, segmented):
    run(dcomp, "eval", "a.safetensors", *SEGMENTS, "--min", "iou=0", "--max", "loss=99", "--max", "pixel_error=1")
    code, out, err = dcomp("eval", "a.safetensors", *SEGMENTS, "--min", "iou=0.999", "--max", "loss=0.001")
    assert code == 3
    assert "iou" in out
    assert err.startswith("error: loss 0.")
    assert "is above the 0.001 allowed; iou 0." in err
    assert err.endswith("is below the 0.999 required\n")


@pytest.mark.parametrize(
    ("bound", "given"),
    [
        (["--max", "dice=1"], "max dice=1 (--max)"),
        (["--max-error", "5"], "max_error (--max-error)"),
    ],
)
def test_a_bound_of_an_unknown_metric_lists_those_there_are(dcomp, segmented, bound, given):
    code, out, err = dcomp("eval", "a.safetensors", *SEGMENTS, *bound)
    name = "dice" if "dice" in given else "top1_error"
    assert (code, out) == (2, "")
    assert err == f"error: {given}: there is no metric {name}; there are iou, pixel_error, loss\n"


@pytest.mark.parametrize("bound", ["iou", "=1", "iou=x", "iou=nan"])
def test_a_bound_that_is_no_bound_is_a_usage_error(dcomp, dense_file, bound):
    code, _, err = dcomp("eval", dense_file, "--data", "digits", "--min", bound)
    assert code == 2
    assert "should be METRIC=VALUE, as in top1_error=1.5" in err


def test_the_top1_error_has_the_same_gate_by_two_options(dcomp, dense_file):
    texts = [
        dcomp("eval", dense_file, "--data", "digits", "-q", *o)[::2]
        for o in (["--max-error", "1"], ["--max", "top1_error=1"])
    ]
    assert texts[0] == texts[1]
    assert texts[0][0] == 3


def test_sensitivity_and_its_plan_follow_a_judge_whose_higher_values_are_better(dcomp, segmented):
    few = ["--prune", "0.1,0.5", "--bits", "none", *SEGMENTS]
    result = json.loads(run(dcomp, "sensitivity", "a.safetensors", *few, "--max-drop", "0.05", "--json"))
    assert result["judge"] == "iou"
    assert all(set(point) == {"amount", "iou", "loss"} for curve in result["curves"] for point in curve["points"])
    assert result["planned"]["iou"] >= result["iou"] - 0.05
    assert result["planned"]["plan"]["prune"]["layer"]
    text = run(
        dcomp, "sensitivity", "a.safetensors", *few, "--max-drop", "0.05", "--plan", "plan.yaml", "--plot", "s.png"
    )
    assert "iou at sparsity" in text
    assert "0.05 less is allowed" in " ".join(text.split())
    pruned = run(dcomp, "prune", "a.safetensors", "--plan", "plan.yaml", "-o", "p.safetensors")
    assert pruned.endswith("p.safetensors\n")
    assert Path("s.png").read_bytes()[:4] == b"\x89PNG"


RECIPE = """
name: pixels
data: mine:task
train: {architecture: "mine:network", epochs: 2, batch_size: 32, optimizer: adam, lr: 0.005}
prune: {sparsity: 0.5, epochs: 1, until: 0, batch_size: 32, optimizer: adam, lr: 0.005}
eval: {min: {iou: 0.999}, max: [loss=99]}
"""


def test_a_recipe_measures_the_metrics_of_its_task_and_checks_their_bounds(dcomp, written, recipe):
    written(PIXELS)
    code, out, err = dcomp("run", recipe, "--out", "r", "--json", "-q")
    assert code == 3
    assert err.startswith("error: iou 0.")
    assert err.endswith("is below the 0.999 required\n")
    stages = json.loads(out)["stages"]
    assert [stage["stage"] for stage in stages] == ["train", "prune", "encode"]
    assert all({"iou", "pixel_error", "loss", "judge", "lower_is_better"} <= set(stage) for stage in stages)
    assert stages[1]["iou"] == stages[2]["iou"]
    recorded = json.loads(Path("r/stages.json").read_text())["prune"]["errors"]["mine:task"]
    assert (recorded["iou"], recorded["judge"], recorded["lower_is_better"]) == (stages[1]["iou"], "iou", False)
    code, out, err = dcomp("run", recipe, "--out", "r", "--set", "eval.min={}")
    assert code == 0
    assert err.count("is used again") == 3
    assert "iou" in out.split("stage", 1)[1]


def test_the_front_of_a_sweep_prefers_higher_values_where_these_are_better(dcomp, written, recipe):
    written(PIXELS)
    changes = ["--set", "eval={}", "--set", "prune.sparsity=0.1,0.97", "--out", "s", "--plot", "f.png"]
    result = json.loads(run(dcomp, "sweep", recipe, *changes, "--json", "-q"))
    small, large = result["points"]
    assert small["bytes"] < large["bytes"]
    assert small["on_front"]
    assert large["on_front"] == (large["iou"] > small["iou"])
    with Path("s/front.csv").open() as file:
        [first, _] = csv.DictReader(file)
    assert list(first)[1:] == ["bytes", "ratio", "iou", "pixel_error", "sparsity", "seconds", "on_front"]


WRONG = {
    "nothing": "def task(): pass",
    "a list": "def task(): return [1, 2]",
    "single tensors": "import torch\nfrom torch.utils.data import TensorDataset as T\n"
    "def task(): return T(torch.zeros(3, 1, 24, 24)), T(torch.zeros(3, 1, 24, 24))",
    "a vector as loss": "import dcomp\nfrom sample_configs import segmentation as s\nfrom dataclasses import replace\n"
    "def task(): return replace(s.task(8, 8), loss=lambda model, batch: model(batch[0]))",
    "metrics without the judge": "import dcomp\nfrom sample_configs import segmentation as s\n"
    "from dataclasses import replace\ndef task(): return replace(s.task(8, 8), judge='dice')",
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_factory_returns_wrong_is_one_error_that_shows_the_right_form(dcomp, written, case):
    written(f"from sample_configs.segmentation import network\n{WRONG[case]}\n")
    code, out, err = dcomp("train", "mine:network", "--data", "mine:task", *TRAINING, "-q")
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert ("there are iou, pixel_error, loss" in err) or ("dcomp.Task(train=..., " in err)
    assert "Traceback" not in err
    assert "defect" not in err
