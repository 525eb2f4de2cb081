"""0: done; 1: something is wrong; 2: wrong usage; 3: a gate is missed."""

import numpy as np
import pytest

from dcomp.checkpoints import safetensors_file

RECIPE = """
name: tiny
data: digits
device: cpu
train: {architecture: lenet300, epochs: 1}
prune: {sparsity: 0.5}
eval: {max_error: 100}
report: {min_ratio: 1}
"""


def test_a_missed_gate_exits_3_after_its_results_are_printed(dcomp, dense_file):
    for arguments, result, error in (
        (["report", dense_file, "--min-ratio", "1000"], "whole file", "is below the 1000 required"),
        (["eval", dense_file, "--data", "digits", "--max-error", "0"], "top-1 error", "is above the 0 % allowed"),
    ):
        code, out, err = dcomp(*arguments)
        assert (code, result in out, error in err.splitlines()[-1]) == (3, True, True)


@pytest.mark.parametrize(
    ("bound", "message"), [("report.min_ratio=1000", "is below the 1000"), ("eval.max_error=0", "is above the 0 %")]
)
def test_a_missed_bound_of_a_recipe_exits_3(dcomp, recipe, tmp_path, bound, message):
    code, out, err = dcomp("run", recipe, "--out", tmp_path / "out", "--set", bound)
    assert (code, "whole file" in out, message in err) == (3, True, True)


def test_a_plan_that_no_layer_bears_exits_3(dcomp, dense_file, monkeypatch):
    monkeypatch.setattr("dcomp.compression.error_curves.Curve.choice", lambda *_: None)
    plan = ["--max-drop", "0", "--plan", dense_file.with_name("plan.yaml")]
    few = ["--data", "digits", "--limit", "50", "--prune", "0.5", "--bits", "2"]
    assert dcomp("sensitivity", dense_file, *few, *plan)[0] == 3


def test_a_sweep_asks_no_bounds_and_a_point_that_fails_exits_1(dcomp, recipe, tmp_path):
    bounds = ["--set", "report.min_ratio=1000", "--set", "eval.max_error=0"]
    assert dcomp("sweep", recipe, *bounds, "--set", "prune.sparsity=0.5,0.9", "--out", tmp_path / "a")[0] == 0
    missing = f"prune.rewind={tmp_path / 'none.safetensors'},null"
    assert dcomp("sweep", recipe, "--set", missing, "--out", tmp_path / "b")[0] == 1


def test_a_missing_file_exits_1_and_wrong_usage_2(dcomp, tmp_path):
    for command in ("report", "encode", "verify"):
        assert dcomp(command, tmp_path / "none.dcz")[0] == 1
    assert dcomp("report", "--min-ratio", "many")[0] == 2
    assert dcomp("prune", tmp_path / "none.safetensors", "--sparsity", "2")[0] == 2


def test_a_container_that_differs_from_a_checkpoint_exits_1(dcomp, dense_file, tmp_path):
    read = safetensors_file.load_file(dense_file)
    with (tmp_path / "other.safetensors").open("wb") as file:
        safetensors_file.save(read.replaced({"fc3.bias": np.nextafter(read.tensors["fc3.bias"], np.float32(9))}), file)
    dcomp("encode", dense_file, "-o", tmp_path / "x.dcz")
    assert dcomp("verify", tmp_path / "x.dcz", "--against", dense_file)[0] == 0
    code, _, err = dcomp("verify", tmp_path / "x.dcz", "--against", tmp_path / "other.safetensors")
    assert (code, "tensor 'fc3.bias' differs in 10 of 10 elements" in err) == (1, True)
