import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

import dcomp as library
from dcomp import demonstration, recipe
from dcomp.cli.app import command

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(command().commands)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_a_place_in_the_readme(dcomp, name):
    code, out, _ = dcomp(name, "--help")
    assert code == 0
    assert f"Example: dcomp {name}" in out
    assert f"dcomp {name}" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "sample_configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_recipe_parses(path):
    assert recipe.load(path).name == path.stem


def test_the_demo_runs_the_recipe_for_digits():
    shipped = recipe.load(ROOT / "sample_configs" / "digits.yaml")
    embedded = recipe.Recipe.model_validate(demonstration.RECIPE)
    for stage in ("train", "prune", "quantize"):
        assert getattr(shipped, stage) == getattr(embedded, stage)


def test_without_arguments_the_help_is_printed_and_no_error(dcomp):
    code, out, err = dcomp()
    assert (code, err) == (2, "")
    assert "Every command reads a checkpoint" in out


def test_the_version_is_printed(dcomp):
    code, out, _ = dcomp("--version")
    assert (code, out) == (0, "dcomp 0.1.0\n")


@pytest.fixture
def container(dense_file, dcomp):
    pruned = dense_file.with_name("p.safetensors")
    dcomp("prune", dense_file, "--sparsity", "0.9", "-o", pruned)
    quantized = dense_file.with_name("q.safetensors")
    dcomp("quantize", pruned, "--fc-bits", "5", "-o", quantized)
    dcomp("encode", quantized, "-o", dense_file.with_name("x.dcz"))
    return dense_file.with_name("x.dcz")


def test_the_json_report_accounts_for_every_byte(dcomp, container):
    code, out, _ = dcomp("report", container, "--json")
    report = json.loads(out)
    assert code == 0
    assert report["file_bytes"] == container.stat().st_size
    assert sum(row["bytes"] for row in report["tensors"]) + report["overhead_bytes"] == report["file_bytes"]


def test_the_csv_report_adds_up(dcomp, container):
    rows = list(csv.DictReader(io.StringIO(dcomp("report", container, "--csv")[1])))
    assert rows[-1]["name"] == "whole file"
    assert sum(int(row["bytes"]) for row in rows[:-1]) == int(rows[-1]["bytes"]) == container.stat().st_size


def test_the_table_and_the_markdown_show_the_same_figures(dcomp, container):
    table = dcomp("report", container)[1]
    markdown = dcomp("report", container, "--markdown")[1]
    for line in markdown.splitlines()[2:]:
        assert all(cell.strip(" *") in table for cell in line.strip("|").split("|"))
    assert f"{container.stat().st_size:,}" in table


def test_a_network_of_the_papers_has_the_papers_figures_beside_it(dcomp, container):
    ours, paper = (line.split() for line in dcomp("report", container)[1].splitlines()[-2:])
    whole = next(line.split() for line in dcomp("report", container)[1].splitlines() if line.startswith("whole file"))
    assert ours == ["this", "file", *whole[3:8], whole[-1]]
    assert paper == ["the", "paper's", "8", "6", "5.1", "5", "3.7", "40x", "1.58"]
    published = json.loads(dcomp("report", container, "--json")[1])["paper"]
    assert (published["ratio"], published["top1_error"]) == (40, 1.58)


def test_another_network_has_no_figures_of_the_papers(dcomp, tmp_path):
    library.save_file({"w": np.ones((3, 4), np.float32)}, tmp_path / "own.dcz")
    assert "paper" not in dcomp("report", tmp_path / "own.dcz")[1]
    assert json.loads(dcomp("report", tmp_path / "own.dcz", "--json")[1])["paper"] is None


def test_a_checkpoint_is_reported_as_encode_would_write_it(dcomp, container):
    ours = json.loads(dcomp("report", container, "--json")[1])
    theirs = json.loads(dcomp("report", container.with_name("q.safetensors"), "--json")[1])
    assert ours == theirs


def test_eval_prints_json_that_parses(dcomp, dense_file):
    code, out, _ = dcomp("eval", dense_file, "--data", "digits", "--json")
    assert code == 0
    assert set(json.loads(out)) == {"top1_error", "top5_error", "loss", "count"}


def test_quiet_leaves_standard_error_empty(dcomp, dense_file):
    code, out, err = dcomp("prune", dense_file, "--sparsity", "0.5", "-q", "-o", dense_file.with_name("q"))
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].endswith("/q")


def test_train_writes_a_checkpoint_named_after_its_network(dcomp, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = dcomp("train", "lenet300", "--data", "digits", "--epochs", "1")
    assert (code, out) == (0, "lenet300.safetensors\n")
    assert "epoch 1: loss" in err
    code, _, _ = dcomp(
        "train", "lenet300", "--data", "digits", "--epochs", "1", "--from", "lenet300.safetensors", "-o", "more"
    )
    assert code == 0
