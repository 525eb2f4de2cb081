import csv
import io
import json

import pytest
import yaml

FEW = ["--data", "digits", "--limit", "50", "--prune", "0.5,0.9", "--bits", "8,2"]


def test_the_table_shows_every_layer_for_both_settings(dcomp, dense_file):
    code, out, _ = dcomp("sensitivity", dense_file, *FEW)
    assert code == 0
    assert out.startswith("lenet300.safetensors on 50 validation examples of digits: top-1 error ")
    assert out.count("fc2.weight") == 2
    assert "top-1 error % at sparsity" in out


def test_json_and_csv_have_the_same_points(dcomp, dense_file):
    curves = json.loads(dcomp("sensitivity", dense_file, *FEW, "--json", "-q")[1])["curves"]
    rows = list(csv.DictReader(io.StringIO(dcomp("sensitivity", dense_file, *FEW, "--csv", "-q")[1])))
    points = [(c["layer"], c["setting"], p["amount"], p["top1_error"]) for c in curves for p in c["points"]]
    assert points == [(r["layer"], r["setting"], float(r["amount"]), float(r["top1_error"])) for r in rows]
    assert len(points) == 3 * 4


def test_prune_and_quantize_read_the_plan_that_sensitivity_writes(dcomp, dense_file):
    plan, plot = dense_file.with_name("plan.yaml"), dense_file.with_name("curves.png")
    files = ["--plan", plan, "--plot", plot]
    code, out, err = dcomp("sensitivity", dense_file, *FEW, "--max-drop", "20", *files)
    assert code == 0, err
    assert "the whole plan: top-1 error" in out
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert set(yaml.safe_load(plan.read_text())) == {"prune", "quantize"}
    assert f"{plan} is written" in err
    pruned = dcomp("prune", dense_file, "--plan", plan)
    assert pruned[0] == 0, pruned[2]
    shared = dcomp("quantize", pruned[1].strip(), "--plan", plan)
    assert shared[0] == 0, shared[2]


def test_the_same_input_gives_the_same_plan_and_image(dcomp, dense_file):
    outputs = []
    for name in ("one", "two"):
        plan, plot = dense_file.with_name(f"{name}.yaml"), dense_file.with_name(f"{name}.png")
        dcomp("sensitivity", dense_file, *FEW, "--max-drop", "20", "--plan", plan, "--plot", plot)
        outputs.append((plan.read_bytes(), plot.read_bytes()))
    assert outputs[0] == outputs[1]


def test_where_no_plan_fits_none_is_written(dcomp, dense_file, monkeypatch):
    plan = dense_file.with_name("plan.yaml")
    monkeypatch.setattr("dcomp.compression.error_curves.Curve.choice", lambda *_: None)
    code, _, err = dcomp("sensitivity", dense_file, *FEW, "--max-drop", "0", "--plan", plan)
    assert code == 3
    assert "no amount of the curves keeps any layer within --max-drop 0" in err
    assert not plan.exists()


MISTAKES = {
    "a sparsity above 1": (
        ["--prune", "0.5,1.5"],
        2,
        "--prune: must be at least 0 and below 1, not 1.5; did you mean 0.015?",
    ),
    "a sparsity that is no number": (["--prune", "half"], 2, "--prune: input should be a valid number"),
    "0 bits": (["--bits", "0"], 2, "--bits: input should be greater than or equal to 1"),
    "nothing to try": (["--prune", "none", "--bits", "none"], 2, "nothing to try: give sparsities (--prune)"),
    "no example": (["--val-split", "0.0001"], 2, "--val-split 0.0001 leaves no example to measure on"),
    "a limit of 0": (["--limit", "0"], 2, "--limit: input should be greater than or equal to 1"),
    "a plan of no drop": (["--plan", "p.yaml"], 2, "--plan needs --max-drop"),
    "a plot of another kind": (["--plot", "p.svg"], 2, "the image is a PNG, so name it .png"),
    "two formats": (["--json", "--csv"], 2, "--json and --csv exclude each other"),
    "a plan over the checkpoint": (
        ["--plan", "lenet300.safetensors", "--max-drop", "1", "--force"],
        1,
        "is the input; name another output",
    ),
    "a plot over the checkpoint": (
        ["--plot", "lenet300.safetensors"],
        1,
        "is the input; name another output",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_error(dcomp, dense_file, monkeypatch, case):
    monkeypatch.chdir(dense_file.parent)
    options, code, message = MISTAKES[case]
    exit_code, out, err = dcomp("sensitivity", "lenet300.safetensors", "--data", "digits", *options)
    assert (exit_code, out) == (code, "")
    assert err.startswith(f"error: {message}") or message in err
    assert err.count("\n") == 1
    assert [path.name for path in dense_file.parent.iterdir()] == ["lenet300.safetensors"]
