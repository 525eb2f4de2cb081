"""Mistakes of a recipe that are found before its first stage runs."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dcomp.checkpoints.checkpoint import ARCHITECTURE_KEY, Checkpoint
from dcomp.errors import ArchitectureError, CheckpointError
from dcomp.learning import architectures
from dcomp.runs import preflight
from dcomp.settings.recipe import Recipe

MISTAKES = {
    "a network that torchvision has not": ("torchvision:resnet19", "", "the nearest are resnet1"),
    "a network that no one has made": ("nowhere:net", "", "cannot make nowhere:net"),
    "a device": ("lenet300", "device: abacus", "--device abacus: not available here"),
    "a folder of data": ("lenet300", "data_dir: /typo", "/typo is no folder"),
    "photos": ("lenet300", "data: imagefolder:nowhere", "no such folder of photos"),
    "data of one's own": ("lenet300", "data: nowhere:data", "cannot make nowhere:data"),
    "a rule": (
        "lenet300",
        "prune: {sparsity: 0.5, layer: [conv=0.2]}",
        "prune: no layer matches 'conv'; there are fc1",
    ),
    "a name": ("lenet300", "prune: [{sparsity: 0.5}, {sparsity: 0.6, only: x}]", "prune.2: no layer matches 'x'"),
    "bits": ("lenet5", "quantize: {fc_bits: 5, bits: [fc3=2]}", "quantize: no layer matches 'fc3'"),
    "kinds": ("lenet300", "prune: {sparsity: 0.5, kinds: conv}", "the checkpoint has no conv weights"),
    "a teacher": ("lenet300", "prune: {sparsity: 0.5, epochs: 3, distill: t.dcz}", "prune.distill: no earlier stage"),
    "masks": (
        "lenet300",
        "prune: {mask: none.npz}",
        "prune.mask: no earlier stage has this name, and cannot read none",
    ),
    "tensors to freeze": (
        "lenet300",
        "prune: {sparsity: 0.5, epochs: 1, freeze: conv}",
        "prune: freeze: no tensor matc",
    ),
    "an option of the optimizer": (
        "lenet300",
        "prune: {sparsity: 0.5, epochs: 1, optimizer_option: dampning=1}",
        "SGD of torch has no option 'dampning'; did you mean dampening?",
    ),
    "a metric": (
        "lenet300",
        "eval: {max: {top1: 3}}",
        "there is no metric top1; there are top1_error, top5_error, loss",
    ),
    "a stage after": ("lenet300", "prune: {sparsity: 0.5, rewind: quantize}", "prune.rewind: no earlier stage"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_reported_before_training(case, tmp_path, dcomp, monkeypatch):
    architecture, section, message = MISTAKES[case]
    monkeypatch.chdir(tmp_path)
    data = "" if "data: " in section else "data: digits\n"
    (tmp_path / "r.yaml").write_text(
        f"name: r\n{data}train: {{architecture: '{architecture}', epochs: 1}}\n{section}\n"
        + ("" if "eval: " in section else "eval: {}\n")
    )
    code, out, err = dcomp("run", "r.yaml")
    assert (code in (1, 2), out) == (True, "")
    assert message in err
    assert "running" not in err
    assert len(err.splitlines()) == 1


def test_all_mistakes_are_one_message(tmp_path, dcomp, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(
        "name: r\ndata: digits\ndevice: abacus\ntrain: {architecture: lenet300, epochs: 1}\n"
        "prune: {sparsity: 0.5, only: a}\nquantize: {fc_bits: 5, skip: b}\n"
    )
    _, _, err = dcomp("run", "r.yaml")
    assert err.startswith("error: the recipe has 3 mistakes:\n")
    assert ("abacus" in err, "prune: no layer matches 'a'" in err, "quantize: no layer matches 'b'" in err) == (
        True,
    ) * 3


def test_the_layers_of_a_checkpoint_are_checked(dense_file, tmp_path, dcomp):
    (tmp_path / "r.yaml").write_text(
        f"name: r\ncheckpoint: {dense_file}\nprune: {{sparsity: 0.5}}\nquantize: {{bits: 3, only: conv}}\n"
    )
    code, _, err = dcomp("run", tmp_path / "r.yaml", "--out", tmp_path / "out")
    assert (code, "quantize: no layer matches 'conv'" in err, "running" in err) == (2, True, False)


def test_the_name_of_a_stage_before_is_no_file(tmp_path, dcomp, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(
        "name: r\ndata: digits\ntrain: {architecture: lenet300, epochs: 1, batch_size: 1500}\n"
        "prune: {sparsity: 0.5, rewind: train}\n"
    )
    assert dcomp("run", "r.yaml", "-q")[0] == 0


WITH_NETWORK = {
    "training": "prune: {sparsity: 0.5, epochs: 1}",
    "training after a stage that does not train": "prune: {sparsity: 0.5}\nquantize: {fc_bits: 3, epochs: 1}",
    "an evaluation": "prune: {sparsity: 0.5}\neval: {}",
}


@pytest.mark.parametrize("sections", WITH_NETWORK.values(), ids=WITH_NETWORK)
def test_a_checkpoint_of_another_network_is_refused(sections, dense_file, tmp_path, dcomp):
    (tmp_path / "r.yaml").write_text(
        f"name: r\ndata: digits\ncheckpoint: {dense_file}\narchitecture: lenet5\n{sections}\n"
    )
    code, out, err = dcomp("run", tmp_path / "r.yaml", "--out", tmp_path / "new" / "out")
    assert (code, out, "running" in err) == (1, "", False)
    assert "error: the checkpoint does not fit lenet5: " in err
    assert not (tmp_path / "new").exists()


def test_a_checkpoint_without_its_network_is_refused(dense_file, tmp_path, dcomp):
    save_file(load_file(dense_file), tmp_path / "a.safetensors")
    (tmp_path / "r.yaml").write_text(
        f"name: r\ndata: digits\ncheckpoint: {tmp_path / 'a.safetensors'}\nprune: {{sparsity: 0.5}}\neval: {{}}\n"
    )
    code, _, err = dcomp("run", tmp_path / "r.yaml", "--out", tmp_path / "out")
    assert (code, "does not say which architecture" in err, "running" in err) == (1, True, False)


def test_a_refused_recipe_keeps_an_existing_folder(dense_file, tmp_path, dcomp):
    (tmp_path / "out").mkdir()
    (tmp_path / "r.yaml").write_text(f"name: r\ncheckpoint: {dense_file}\nprune: {{sparsity: 0.5, only: conv}}\n")
    assert dcomp("run", tmp_path / "r.yaml", "--out", tmp_path / "out")[0] == 2
    assert not list((tmp_path / "out").iterdir())


def test_lengths_that_data_decide_are_not_checked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos_of_mine.py").write_text("def twelve(): raise NotImplementedError\n")
    recipe = Recipe.model_validate(
        {
            "name": "r",
            "data": "photos_of_mine:twelve",
            "checkpoint": tmp_path / "a.safetensors",
            "architecture": "lenet300",
            "prune": {"sparsity": 0.5},
            "eval": {},
        }
    )
    twelve = architectures.tensors_of(architectures.build("lenet300", {"classes": 12}))
    preflight.check(recipe, Checkpoint(twelve))
    with pytest.raises(ArchitectureError, match=r"fc3.weight is \(12, 100\) where the network has \(10, 100\)"):
        preflight.check(recipe, Checkpoint(twelve, {ARCHITECTURE_KEY: "lenet300"}))


def test_a_rewind_may_be_a_folder_of_shards(tmp_path):
    save_file({"w": np.ones(3)}, tmp_path / "one.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"w": "one.safetensors"}}')
    sections = {"prune": {"sparsity": 0.5, "rewind": tmp_path}}
    recipe = Recipe.model_validate({"name": "r", "checkpoint": tmp_path / "one.safetensors", **sections})
    preflight.check(recipe, Checkpoint({"w.weight": np.ones((3, 3), np.float32)}))
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"^prune\.rewind: no earlier stage has this name, and .* is a folder without"
    ):
        preflight.check(recipe, Checkpoint({"w.weight": np.ones((3, 3), np.float32)}))
