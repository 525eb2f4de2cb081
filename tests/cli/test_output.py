import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import dcomp as library
from dcomp.cli.app import command
from dcomp.runs import demo as demonstration
from dcomp.settings import recipe

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(command().commands)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_and_a_place_in_the_readme(dcomp, name):
    code, out, _ = dcomp(name, "--help")
    assert code == 0
    assert f"Example: dcomp {name}" in out
    assert f"dcomp {name}" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", ["prune", "finetune", "quantize", "train"])
def test_the_first_options_of_a_stage_fit_one_screen(dcomp, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    lines = dcomp(name, "--help")[1].splitlines()
    ends = [number for number, line in enumerate(lines) if line.startswith("╰")]
    assert ends[1] < 24
    assert max(map(len, lines)) <= 80
    panel = lines[ends[0] : ends[1]]
    assert {"--epochs", "--lr", "--data", "--output", "--force"} <= {line.split()[1] for line in panel[2:]}


@pytest.mark.parametrize("columns", ["0", "1", "40", "200"])
def test_help_has_all_its_words_on_a_terminal_of_any_width(dcomp, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    code, out, _ = dcomp("guide", "--help")
    assert code == 0
    assert {"Usage:", "Example:", "quickstart", "PAGE", "--help"} <= set(out.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_no_types(dcomp, name):
    assert re.search(r"<(bool|str|path|int|float)", dcomp(name, "--help")[1]) is None


def test_help_of_the_program_shows_no_types_and_where_to_start(dcomp):
    out = dcomp("--help")[1]
    assert "<bool>" not in out
    assert "dcomp guide quickstart" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_no_help_is_cut_at_80_columns(dcomp, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    assert "…" not in dcomp(name, "--help")[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_pages_are_legible_in_a_column(dcomp, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "1")
    code, out, _ = dcomp(name, "--help")
    assert code == 0
    assert f"Example: dcomp {name}" in " ".join(out.split())
    assert max(map(len, out.splitlines())) == 40


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
    for line in (line for line in markdown.splitlines() if line.startswith("|") and "---" not in line):
        assert all(cell.strip() in table for cell in line.strip("|").split("|"))
    assert f"{container.stat().st_size:,}" in table


def test_the_storage_in_json_adds_up_to_the_file(dcomp, dense_file):
    quantized, encoded = (dense_file.with_name(name) for name in ("z.safetensors", "z.dcz"))
    pruned = dense_file.with_name("zp.safetensors")
    dcomp("prune", dense_file, "--sparsity", "0.7", "--scope", "layer", "-o", pruned)
    dcomp("quantize", pruned, "--fc-bits", "5", "-o", quantized)
    dcomp("encode", quantized, "-o", encoded)
    report = json.loads(dcomp("report", encoded, "--json")[1])
    weights = [row for row in report["tensors"] if row["name"].endswith("weight")]
    assert [round(row["kept_percent"], 1) for row in weights] == [30, 30, 30]
    assert [row["weight_bits"] for row in weights] == [5, 5, 5]
    for row in report["tensors"]:
        assert sum(row["storage"].values()) == row["bytes"]
    assert sum(report["storage"].values()) == report["file_bytes"] == encoded.stat().st_size


def test_the_papers_rows_stand_beside_each_layer(dcomp, container):
    lines = [line.split() for line in dcomp("report", container)[1].splitlines()]
    layers = [line[0] for line in lines[1:12]]
    assert layers == [
        *("fc1.weight", "paper's", "fc1.bias", "fc2.weight", "paper's", "fc2.bias", "fc3.weight", "paper's"),
        *("fc3.bias", "whole", "paper's"),
    ]
    assert lines[2] == ["paper's", "ip1", "235K", "8", "6", "4.4", "5", "3.7", "12.5x", "32.3x", "43.1x"]
    assert lines[11] == ["paper's", "total", "266K", "8", "6", "5.1", "5", "3.7", "12.5x", "32.3x", "40.2x"]
    assert lines[-1][-6:] == ["error", "1.64", "%", "->", "1.58", "%"]
    assert "| paper's ip3 | 1K | 26 | 6 | 4.3 | 5 | 3.2 |" in dcomp("report", container, "--markdown")[1]


def test_the_papers_rows_stand_beside_each_layer_in_json_and_csv(dcomp, container):
    report = json.loads(dcomp("report", container, "--json")[1])
    papers = {row["name"]: row["paper"] for row in report["tensors"]}
    assert (papers["fc1.weight"]["layer"], papers["fc1.weight"]["rate_percent_coded"]) == ("ip1", 2.32)
    assert papers["fc1.bias"] is None
    assert (report["paper"]["ratio"], report["paper"]["top1_error"], report["total"]["paper"]["weight_bits"]) == (
        40,
        1.58,
        6,
    )
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(dcomp("report", container, "--csv")[1]))}
    assert (rows["fc3.weight"]["paper.layer"], rows["fc3.weight"]["paper.kept_percent"]) == ("ip3", "26")
    assert rows["fc3.bias"]["paper.layer"] == ""
    assert rows["whole file"]["paper.weights"] == "266000"
    parts = ("values", "positions", "codebooks", "code_tables", "rest", "header")
    for row in rows.values():
        assert sum(int(row[f"storage.{part}"] or 0) for part in parts) == int(row["bytes"])


def test_csv_json_and_the_table_agree(dcomp, container):
    report = json.loads(dcomp("report", container, "--json")[1])
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(dcomp("report", container, "--csv")[1]))}
    table = {line.split()[0]: line.split() for line in reversed(dcomp("report", container)[1].splitlines()) if line}
    for row in report["tensors"]:
        for figure in ("kept", "kept_percent", "weight_bits", "weight_bits_coded", "index_bits", "index_bits_coded"):
            assert rows[row["name"]][figure] == ("" if row[figure] is None else str(row[figure]))
        assert f"{row['kept_percent']:.2f}" in table[row["name"]]
        assert f"{row['weight_bits_coded']:.2f}" in table[row["name"]]


def test_rows_are_grouped_sorted_and_summed_up_as_asked(dcomp, container):
    def names(*options):
        return [row["name"] for row in json.loads(dcomp("report", container, "--json", *options)[1])["tensors"]]

    assert names("--depth", "1") == ["fc1", "fc2", "fc3"]
    assert names("--sort", "weights")[:2] == ["fc1.weight", "fc2.weight"]
    assert names("--top", "1") == ["fc1.weight", "5 others"]
    assert names("--depth", "1", "--sort", "name", "--top", "1") == ["fc1", "2 others"]
    total = json.loads(dcomp("report", container, "--json")[1])["total"]
    assert json.loads(dcomp("report", container, "--json", "--top", "2")[1])["total"] == total
    assert dcomp("report", container, "--sort", "colour")[0] == 2
    assert dcomp("report", container, "--depth", "0")[0] == 2


def test_many_rows_come_with_a_hint_that_quiet_silences(dcomp, tmp_path, rng):
    tensors = {f"block{place // 4}.layer{place}.weight": rng.normal(size=20 + place) for place in range(60)}
    library.save_file(tensors, tmp_path / "x.dcz")
    _, out, err = dcomp("report", tmp_path / "x.dcz")
    assert err == "60 rows; --depth 1 groups them by module, --top 20 keeps the largest\n"
    assert "block7.layer30.weight" in out
    assert dcomp("report", tmp_path / "x.dcz", "-q")[2] == ""
    assert dcomp("report", tmp_path / "x.dcz", "--top", "20")[2] == ""
    assert dcomp("report", tmp_path / "x.dcz", "--json")[2] == ""


@pytest.mark.parametrize("columns", [60, 80])
def test_a_report_fits_narrow_terminals_and_cuts_no_figure(dcomp, container, monkeypatch, columns):
    report = json.loads(dcomp("report", container, "--json")[1])
    monkeypatch.setenv("COLUMNS", str(columns))
    out = dcomp("report", container)[1]
    assert max(map(len, out.splitlines())) <= columns
    words = out.split()
    for row in report["tensors"]:
        assert {f"{row['weights']:,}", f"{row['bytes']:,}", f"{row['ratio']:.2f}x", row["name"]} <= set(words)


def test_tied_tensors_are_shown_with_their_names_and_never_as_0x(dcomp, tmp_path):
    zeros = np.zeros(64, np.float32)
    library.save_file({"a.bias": zeros, "b.bias": zeros, "w": np.arange(1, 9.0)}, tmp_path / "tied.dcz")
    code, out, err = dcomp("report", tmp_path / "tied.dcz")
    assert (code, err) == (0, "")
    assert "0.00x" not in out
    tied = [line.split() for line in out.splitlines() if line.startswith("b.bias")]
    assert tied == [["b.bias", "64", "0.00", "tied"], ["b.bias", "a.bias"]]
    rows = {row["name"]: row for row in json.loads(dcomp("report", tmp_path / "tied.dcz", "--json")[1])["tensors"]}
    assert (rows["b.bias"]["tied_to"], rows["b.bias"]["ratio"]) == ("a.bias", None)
    for form in ("--csv", "--markdown"):
        assert "a.bias" in dcomp("report", tmp_path / "tied.dcz", form)[1]


def test_a_report_keeps_to_its_limit_of_memory(dcomp, container):
    code, out, err = dcomp("report", container, "--max-memory", "1e-6")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "(--max-memory) raises it" in err


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


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "x.dcz"],
        ["report", "x.dcz", "--markdown"],
        ["report", "x.dcz", "--csv"],
        ["report", "x.dcz", "--json"],
        ["inspect", "x.dcz"],
        ["inspect", "x.safetensors"],
        ["prune", "x.safetensors", "--sparsity", "0.5", "--only", "nothing", "-o", "y"],
        ["prune", "x.safetensors", "--count", "10000", "-o", "y"],
        ["quantize", "x.safetensors", "--fc-bits", "5", "-o", "y"],
        ["decode", "x.dcz", "--tensor", "nothing", "-o", "y"],
        ["verify", "x.dcz", "--against", "x\x1b[2J"],
        ["decode", "damaged.dcz", "-o", "y", "-q"],
    ],
    ids=" ".join,
)
def test_escape_sequences_of_names_never_reach_the_terminal(dcomp, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    tensors = {"a\x1b[31m\x9b2J.weight": np.arange(12, dtype=np.float32).reshape(3, 4) + 1}
    library.save_file(tensors, "x.dcz")
    save_file(tensors, "x.safetensors", {"\x1b[5m": "\x1b]0;title\x07"})
    data = bytearray(Path("x.dcz").read_bytes())
    data[-1] ^= 1
    Path("damaged.dcz").write_bytes(data)
    _, out, err = dcomp(*arguments)
    assert out + err
    assert not {"\x1b", "\x9b", "\x07"} & set(out + err)
