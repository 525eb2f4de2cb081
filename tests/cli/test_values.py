"""Values that many options have in common: numbers, paths, names."""

import math
import os
import subprocess
import sys

import pytest

from dcomp.checkpoints import safetensors_file
from dcomp.cli.app import command

FLOATS = [
    (name, option.opts[0])
    for name, each in command().commands.items()
    for option in each.params
    if type(option).__name__ == "TyperOption" and option.type_descriptor.annotation is float
]


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize(("name", "option"), FLOATS, ids=" ".join)
def test_a_number_that_is_not_finite_is_one_error_of_usage(name, option, value, dense_file, dcomp, monkeypatch):
    monkeypatch.chdir(dense_file.parent)
    needed = {"train": ["lenet5"], "run": ["r.yaml"], "sweep": ["r.yaml"]}.get(name, [dense_file])
    code, out, err = dcomp(name, *needed, f"{option}={value}")
    assert (code, out) == (2, "")
    assert err.startswith(("error: --", "error: Invalid value for"))
    assert len(err.splitlines()) == 1
    assert "defect" not in err


def test_all_numbers_with_a_point_are_looked_at():
    assert {("decode", "--max-memory"), ("train", "--lr"), ("bench", "-t")} < set(FLOATS)
    assert len(FLOATS) > 40


@pytest.mark.parametrize("limit", ["0", "-1", "1e-12", "x"])
def test_a_limit_of_memory_that_allows_nothing_is_one_clear_error(limit, dense_file, dcomp):
    assert dcomp("encode", dense_file)[0] == 0
    code, out, err = dcomp("verify", dense_file.with_suffix(".dcz"), f"--max-memory={limit}")
    assert (code in (1, 2), out) == (True, "")
    assert "max-memory" in err
    assert "defect" not in err


@pytest.mark.parametrize("command", ["report", "inspect", "verify", "decode"])
def test_a_limit_of_memory_that_no_machine_reaches_is_no_limit(command, dense_file, dcomp):
    assert dcomp("encode", dense_file)[0] == 0
    arguments = ["-o", dense_file.with_name("again.safetensors")] if command == "decode" else []
    assert dcomp(command, dense_file.with_suffix(".dcz"), "--max-memory=1e308", *arguments)[0] == 0


@pytest.mark.parametrize("name", ["WORLD_SIZE", "LOCAL_WORLD_SIZE"])
@pytest.mark.parametrize(("text", "code"), [("abc", 2), ("1.5", 2), ("-3", 2), ("0", 2), ("", 0), ("1", 0)])
def test_a_number_of_processes_that_is_none_is_one_error(name, text, code, dense_file):
    environment = {**os.environ, name: text}
    done = subprocess.run(
        [sys.executable, "-m", "dcomp", "inspect", dense_file], env=environment, capture_output=True, text=True
    )
    assert done.returncode == code
    assert done.stderr.startswith(f"error: {name} in the environment is '{text}'" if code else "not compressed")


def test_home_is_expanded_after_an_equals_sign(dense_file, dcomp, monkeypatch):
    monkeypatch.setenv("HOME", str(dense_file.parent))
    code, out, _ = dcomp("prune", "~/lenet300.safetensors", "--sparsity=0.5", "--output=~/made.safetensors")
    assert (code, out) == (0, f"{dense_file.parent}/made.safetensors\n")
    assert (dense_file.parent / "made.safetensors").exists()
    code, _, err = dcomp("prune", "~nobody-of-this-name/x", "--sparsity=0.5")
    assert (code, err) == (1, "error: cannot read ~nobody-of-this-name/x: No such file or directory\n")


def test_home_is_expanded_in_a_recipe(dense_file, tmp_path, dcomp, monkeypatch):
    monkeypatch.setenv("HOME", str(dense_file.parent))
    (dense_file.parent / "plan.yaml").write_text("prune: {layer: [fc1=0.5]}\nquantize: {bits: [fc1=2]}\n")
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: r\ncheckpoint: ~/lenet300.safetensors\nplan: ~/plan.yaml\nprune: {}\n")
    assert dcomp("run", recipe, f"--out={tmp_path}/out", "-q")[0] == 0
    weights = safetensors_file.load_file(tmp_path / "out" / "prune.safetensors").tensors["fc1.weight"]
    assert math.isclose((weights == 0).mean(), 0.5)


@pytest.mark.parametrize("option", ["--data-dir", "DCOMP_DATA"])
def test_a_missing_data_folder_is_an_error(option, tmp_path, dcomp, monkeypatch):
    monkeypatch.chdir(tmp_path)
    typo = tmp_path / "typo"
    if option == "DCOMP_DATA":
        monkeypatch.setenv(option, str(typo))
    else:
        monkeypatch.delenv("DCOMP_DATA", raising=False)
    options = ["--data-dir", typo] if option == "--data-dir" else []
    for data in ("mnist", "cifar10", "imagenette", "imagefolder:photos"):
        code, _, err = dcomp("train", "lenet5", "--data", data, "--epochs", "1", *options)
        assert code == 1
        assert err.startswith("error: ")
        assert str(typo) in err
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", ["DIGITS", "Digits"])
def test_names_of_networks_and_data_are_taken_in_any_case(data, tmp_path, dcomp, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--batch-size", "2000", "--val-split", "0"]
    assert dcomp("train", "LeNet300", "--data", data, "--epochs", "1", *small)[:2] == (0, "lenet300.safetensors\n")
    metadata = safetensors_file.load_file(tmp_path / "lenet300.safetensors").metadata
    assert metadata["dcomp.architecture"] == "lenet300"
    assert '"data":"digits"' in metadata["dcomp.train"]
    assert dcomp("eval", "lenet300.safetensors", "--data", data, "--arch", "LENET300")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["train", "lenet-5", "--data", "digits"], "lenet5"),
        (["train", "VGG16CIFAR", "--data", "digits"], "vgg16-cifar"),
        (["train", "torchvision:ResNet19", "--data", "digits"], "resnet1"),
        (["train", "lenet5", "--data", "minst"], "mnist"),
        (["train", "lenet5", "--data", "imagenete"], "imagenette"),
        (["train", "lenet5", "--data", "cifar-10"], "cifar10"),
    ],
)
def test_for_a_name_that_is_not_there_the_nearest_is_suggested(arguments, nearest, tmp_path, dcomp, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = dcomp(*arguments)
    assert code in (1, 2)
    assert f"did you mean {nearest}? There are" in err or f"the nearest are {nearest}" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sparsity", "90"], "must be at least 0 and below 1, not 90; did you mean 0.9?"),
        (["--sparsity", "99.5"], "did you mean 0.995?"),
        (["--sparsity", "1"], "--sparsity: must be at least 0 and below 1, not 1\n"),
        (["--sparsity", "100"], "--sparsity: must be at least 0 and below 1, not 100\n"),
        (["--amount", "30"], "did you mean 0.3?"),
        (["--layer", "fc1=90"], "the sparsity of a layer must be at least 0 and below 1, not 90; did you mean 0.9?"),
        (["--layer", "fc1=1"], "the sparsity of a layer must be at least 0 and below 1, not 1\n"),
        (["--count", "266200"], "would leave none of 266,200 weights, and so no network"),
        (["--count", "1000", "--scope", "layer"], "fc3.weight: this would leave none of 1,000 weights"),
        (["--count", "10", "--structure", "row", "--only", "fc3"], "this would leave none of 10 rows"),
        (["--sparsity", "0.9999", "--scope", "layer"], "fc3.weight: this would leave none of 1,000 weights"),
        (["--sparsity", "0.999999"], "this would leave none of 266,200 weights"),
        (["--criterion", "std", "--threshold", "50"], "fc1.weight: this would leave none of 235,200 weights"),
    ],
)
def test_what_would_empty_the_network_is_refused(options, message, dense_file, dcomp):
    code, _, err = dcomp("prune", dense_file, *options)
    assert code == 2
    assert message in err
    assert len(list(dense_file.parent.iterdir())) == 1


@pytest.mark.parametrize("section", ["prune: {sparsity: 1}", "prune: {layer: [fc1=1]}", "plan: plan.yaml\nprune: {}"])
def test_a_plan_that_empties_the_network_is_refused(section, dense_file, dcomp, monkeypatch):
    monkeypatch.chdir(dense_file.parent)
    (dense_file.parent / "plan.yaml").write_text("prune: {layer: [fc1=1]}\n")
    (dense_file.parent / "r.yaml").write_text(f"name: r\ncheckpoint: lenet300.safetensors\n{section}\n")
    code, _, err = dcomp("run", "r.yaml")
    assert code == 2
    assert "at least 0 and below 1" in err


def test_biases_may_all_become_zero(dense_file, dcomp):
    assert dcomp("prune", dense_file, "--kinds", "bias", "--only", "fc3", "--count", "10")[0] == 0
