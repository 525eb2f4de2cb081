"""Code that a checkpoint names is run where a person agreed, by naming it or by trusting what checkpoints name."""

import sys

import pytest

from dcomp.checkpoints import safetensors_file
from dcomp.learning.factories import TRUST_VARIABLE

CODE = """
import torch
from torch import nn
from dcomp.learning.datasets import Dataset, MemorySplit, Preprocessing

def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))

def examples():
    labels = torch.arange(40) % 2
    images = (labels.reshape(-1, 1, 1, 1) * 200).expand(-1, 1, 8, 8).to(torch.uint8)
    return MemorySplit(images, labels, Preprocessing((0.0,), (1.0,)))

def data():
    return Dataset(examples(), examples())
"""

TRAINING = ["--epochs", "1", "--batch-size", "16", "--val-split", "0.2"]


@pytest.fixture
def trained(tmp_path, monkeypatch, dcomp):
    """The checkpoint of a network and data of the user's code, which records both."""
    monkeypatch.delenv(TRUST_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    (tmp_path / "agreed_code.py").write_text(CODE)
    assert dcomp("train", "agreed_code:net", "--data", "agreed_code:data", *TRAINING, "-o", "a.safetensors")[0] == 0
    return tmp_path / "a.safetensors"


COMMANDS = {
    "eval": [],
    "sensitivity": ["--prune", "0.5", "--bits", "none", "--val-split", "0.2"],
    "prune": ["--sparsity", "0.5", "--until", "0", *TRAINING],
    "finetune": TRAINING,
    "quantize": ["--fc-bits", "2", *TRAINING],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_one_flag_lets_a_command_run_the_recorded_network_and_data(command, trained, dcomp):
    assert dcomp(command, trained, *COMMANDS[command], "--trust-code")[0] == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_without_agreement_the_error_says_what_to_add(command, trained, dcomp):
    _, _, err = dcomp(command, trained, *COMMANDS[command])
    assert err == (
        "error: the checkpoint asks for 'agreed_code:data'; if you trust that code, add --data agreed_code:data, or "
        "--trust-code for all code that checkpoints name (DCOMP_TRUST_CODE=1 says so for all commands)\n"
    )
    _, _, err = dcomp(command, trained, *COMMANDS[command], "--data", "agreed_code:data")
    assert "if you trust that code, add --arch agreed_code:net, or --trust-code" in err


@pytest.mark.parametrize(("value", "code"), [("1", 0), ("0", 2), ("", 2)])
def test_a_variable_says_it_once_for_all_commands(value, code, trained, dcomp, monkeypatch):
    monkeypatch.setenv(TRUST_VARIABLE, value)
    assert dcomp("eval", trained)[0] == code


def test_trust_is_not_recorded(trained, dcomp):
    assert dcomp("finetune", trained, *TRAINING, "--trust-code", "-o", "b.safetensors")[0] == 0
    assert "trust" not in str(safetensors_file.load_file(trained.with_name("b.safetensors")).metadata)


def test_trust_without_anything_to_trust_is_refused(trained, dcomp):
    code, _, err = dcomp("prune", trained, "--sparsity", "0.5", "--trust-code")
    assert (code, err) == (2, "error: --trust-code would do nothing without training: give --epochs as well\n")


RECIPE = "name: r\ncheckpoint: a.safetensors\nprune: {sparsity: 0.5}\neval: {}\n"


def test_a_recipe_says_it_in_its_text_or_by_an_option(trained, dcomp):
    recipe = trained.with_name("r.yaml")
    recipe.write_text(RECIPE)
    code, _, err = dcomp("run", recipe)
    assert code == 2
    assert "asks for 'agreed_code:data'" in err
    assert dcomp("run", recipe, "--trust-code", "--out", "by-option")[0] == 0
    assert dcomp("sweep", recipe, "--set", "prune.sparsity=0.4,0.5", "--trust-code")[0] == 0
    recipe.write_text(RECIPE + "trust_code: true\n")
    assert dcomp("run", recipe, "--out", "by-text")[0] == 0


def test_a_recipe_agrees_to_the_code_that_it_names(trained, dcomp):
    recipe = trained.with_name("r.yaml")
    recipe.write_text(RECIPE + "architecture: agreed_code:net\ndata: agreed_code:data\n")
    assert dcomp("run", recipe)[0] == 0


def test_a_teacher_of_the_named_code_needs_no_more_and_of_other_code_does(trained, dcomp):
    named = ["--data", "agreed_code:data", *TRAINING, "--distill", trained]
    assert dcomp("train", "agreed_code:net", *named, "-o", "b.safetensors")[0] == 0
    (trained.parent / "other_code.py").write_text(CODE)
    code, _, err = dcomp("train", "other_code:net", *named, "-o", "c.safetensors")
    assert code == 1
    assert "asks for 'agreed_code:net'" in err
    assert dcomp("train", "other_code:net", *named, "-o", "c.safetensors", "--trust-code")[0] == 0
