"""Data sets that checkpoints record, and recipes and commands that name none."""

import numpy as np
import pytest

from dcomp import sources
from dcomp.checkpoints import safetensors_file
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.compression import provenance
from dcomp.errors import UsageError
from dcomp.progress.observer import Observer
from dcomp.runs.run import Run
from dcomp.settings import EvalSettings, PruneSettings, recipe

SMALL = ["--batch-size", "1500", "--val-split", "0.2"]


@pytest.fixture
def trained(tmp_path, lenet_like):
    """A checkpoint whose notes say that it was trained on digits."""
    path = tmp_path / "lenet300.safetensors"
    with path.open("wb") as file:
        safetensors_file.save(lenet_like.replaced({}, {"dcomp.train": '{"data":"digits","epochs":3}'}), file)
    return path


@pytest.mark.parametrize(
    "command",
    [
        ["prune", "--sparsity", "0.5", "--epochs", "1", "--until", "0", *SMALL],
        ["finetune", "--epochs", "1", *SMALL],
        ["quantize", "--fc-bits", "3", "--epochs", "1", *SMALL],
        ["eval"],
        ["sensitivity", "--prune", "0.5", "--bits", "none"],
    ],
    ids=lambda command: command[0],
)
def test_without_data_that_of_the_checkpoint_is_used_and_said(command, trained, dcomp):
    name, *options = command
    code, _, err = dcomp(name, trained, *options)
    assert code == 0
    assert err.count("data: digits, as the checkpoint records") == 1


@pytest.mark.parametrize("name", ["eval", "sensitivity", "prune"])
def test_without_any_data_a_data_set_is_asked_for(name, dense_file, dcomp):
    code, _, err = dcomp(name, dense_file, *(["--sparsity", "0.5", "--epochs", "2"] if name == "prune" else []))
    assert code == 2
    assert "the checkpoint records none: name one in data (--data), like mnist" in err


def settled(settings, **notes):
    metadata = {key.replace("_", "."): text for key, text in notes.items()}
    return provenance.with_recorded_data(settings, Checkpoint({}, metadata), Observer()).data


def test_the_latest_training_names_the_data_unless_a_person_does():
    notes = {"dcomp_train": '{"data":"mnist"}', "dcomp_prune": '{"data":"digits"}', "dcomp_quantize": '{"fc_bits":5}'}
    assert settled(EvalSettings(), **notes) == "digits"
    assert settled(EvalSettings(data="cifar10"), **notes) == "cifar10"


def test_code_that_a_checkpoint_names_is_not_run():
    with pytest.raises(UsageError, match="if you trust that code, add --data os:getcwd"):
        settled(EvalSettings(), dcomp_train='{"data":"os:getcwd"}')


@pytest.mark.parametrize("note", ["[", "[1]", '{"data":5}', '{"data":"nosuch"}', "[" * 100_000, '{"data":null}', "5"])
def test_notes_that_name_no_data_set_are_as_good_as_none(note):
    with pytest.raises(UsageError, match="the checkpoint records none"):
        settled(PruneSettings(sparsity=0.5, epochs=1), dcomp_train=note)


def test_a_recipe_from_a_checkpoint_uses_its_data(trained, tmp_path):
    (tmp_path / "r.yaml").write_text(
        f"name: r\ncheckpoint: {trained}\nprovenance: none\nprune: [{{sparsity: 0.5, only: fc1}}, "
        "{sparsity: 0.5, epochs: 1, until: 0, batch_size: 1500}]\nquantize: {bits: 3}\neval: {}\n"
    )
    summary = Run(recipe.load(tmp_path / "r.yaml"), tmp_path / "out").run()
    assert all(result.measured is not None for result in summary.results)
    made = sources.load_checkpoint(tmp_path / "out" / "model.dcz")
    assert "dcomp.train" not in made.metadata
    assert [np.unique(made.tensors[f"fc{layer}.weight"]).size for layer in (1, 2, 3)] == [9, 9, 9]


def test_data_that_train_alone_names_is_that_of_all_sections(tmp_path):
    (tmp_path / "r.yaml").write_text(
        "name: r\ntrain: {architecture: lenet300, data: digits, epochs: 1}\n"
        "prune: {sparsity: 0.5, epochs: 1, until: 0}\neval: {}\n"
    )
    read = recipe.load(tmp_path / "r.yaml")
    assert (read.prune[0].data, read.eval.data) == ("digits", "digits")
