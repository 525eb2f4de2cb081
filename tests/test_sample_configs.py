"""Every shipped recipe runs, for a step a stage, on generated data of the right form."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dcomp.learning import vision
from dcomp.reporting.paper import PAPER
from dcomp.runs.run import Run
from dcomp.settings import recipe

RECIPES = sorted((Path(__file__).parents[1] / "sample_configs").glob("*.yaml"))
SHRUNK = {"alexnet": 67, "vgg16": 32}
"""Pixels that the large networks see here, which makes their fully connected layers small."""


class Generated:
    """What torchvision gives, for any of its data sets of small images."""

    def __init__(self, shape, classes):
        self.shape, self.classes = shape, range(classes)

    def __call__(self, root, train, download):
        made = Generated(self.shape, len(self.classes))
        made.data = torch.from_numpy(np.random.default_rng(train).integers(0, 256, (12, *self.shape), dtype=np.uint8))
        made.targets = torch.arange(12) % len(self.classes)
        return made


@pytest.fixture
def generated(tmp_path, monkeypatch):
    """A folder with data of the forms that the recipes name."""
    forms = {"MNIST": ((28, 28), 10), "CIFAR10": ((32, 32, 3), 10), "CIFAR100": ((32, 32, 3), 100)}
    for name, form in forms.items():
        monkeypatch.setattr(vision.datasets, name, Generated(*form))
    for size in (160, 320):
        for number in range(12):
            path = tmp_path / f"imagenette2-{size}" / ("train" if number % 2 else "val") / f"n0{number // 2}" / "1.JPEG"
            path.parent.mkdir(parents=True)
            Image.fromarray(np.full((size, size + 20, 3), 20 * number, np.uint8)).save(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(RECIPES[0].parents[1])
    for module, fewer in (("segmentation", (64, 32)), ("language_model", (6400,))):
        monkeypatch.setattr(import_module(f"sample_configs.{module}").task, "__defaults__", fewer)
    return tmp_path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_runs(path, generated):
    shipped = recipe.load(path)
    numbers = range(1, len(shipped.prune) + 1)
    prunings = [f"prune.{number}" for number in numbers] if len(numbers) > 1 else ["prune"]
    changes = ["data_dir=.", "workers=0", "device=cpu", "report=null", "eval={}", "train.warmup=0"]
    moving = zip(prunings, shipped.prune, strict=True)
    changes += [f"{pruning}.until=0" for pruning, section in moving if section.schedule != "oneshot"]
    finetunings = ["finetune"] if shipped.finetune else []
    changes += [f"{stage}.choose_after=0" for stage in finetunings]
    for stage in ("train", *prunings, *finetunings, "quantize"):
        changes += [f"{stage}.epochs=1", f"{stage}.batch_size=2048", f"{stage}.val_split=0"]
    if shipped.train.architecture in SHRUNK:
        changes.append(f"train.crop={SHRUNK[shipped.train.architecture]}")
    summary = Run(recipe.load(path, changes), generated / "out").run()
    assert len(summary.results) == len(["train", *prunings, *finetunings, "quantize", "encode"])
    assert summary.results[-1].sparsity > 0.5
    assert summary.sizes.ratio > 3


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_begins_with_its_command_and_its_minutes(path):
    header = path.read_text().partition("name: ")[0]
    assert f"\n#   dcomp run sample_configs/{path.name}\n" in header
    assert "minute" in header or "hour" in header
    assert all(line.startswith("# ") for line in header.splitlines())


def test_each_network_of_the_papers_has_a_recipe():
    assert {recipe.load(path).train.architecture for path in RECIPES} >= set(PAPER)
