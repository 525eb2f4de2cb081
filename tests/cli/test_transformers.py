"""Networks of Transformers through the commands: a classifier of images, and a language model."""

import json
import sys

import pytest

from dcomp.checkpoints import safetensors_file
from dcomp.learning import vision  # noqa: F401  # before Transformers, whose torchvision lacks operators

transformers = pytest.importorskip("transformers")

CODE = """
import torch
from torch.utils.data import Dataset
import dcomp

class Lines(Dataset):
    def __len__(self):
        return 48
    def __getitem__(self, index):
        return {"input_ids": (torch.arange(8) * (1 + index % 3) + index) % 16}

def task():
    def loss(model, batch):
        return model(**batch, labels=batch["input_ids"]).loss
    return dcomp.Task(train=Lines(), test=Lines(), loss=loss)

def lines():
    return Lines(), Lines()
"""

TRAINING = ["--batch-size", "16", "--optimizer", "adam", "--lr", "0.01"]


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    """The current folder, with configs of two networks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tiny_lines", raising=False)
    (tmp_path / "tiny_lines.py").write_text(CODE)
    images = transformers.ResNetConfig(
        num_channels=1, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], num_labels=10, layer_type="basic"
    )
    text = transformers.GPT2Config(
        n_layer=1, n_head=2, n_embd=16, vocab_size=16, n_positions=8, bos_token_id=0, eos_token_id=0
    )
    for config, folder, name in ((images, "resnet", "ResNetForImageClassification"), (text, "gpt2", "GPT2LMHeadModel")):
        config.architectures = [name]
        config.save_pretrained(tmp_path / folder)
    return tmp_path


def test_a_classifier_of_images_trains_and_needs_its_folder_no_more(work, dcomp):
    digits = ["--data", "digits", "--epochs", "1", "--batch-size", "64"]
    code, _, err = dcomp("train", "transformers:resnet", *digits)
    assert code == 0, err
    (work / "resnet").rename(work / "elsewhere")
    checkpoint = safetensors_file.load_file(work / "resnet.safetensors")
    assert checkpoint.metadata["dcomp.architecture"] == "transformers:ResNetForImageClassification"
    assert str(work) not in "".join(checkpoint.metadata.values())
    code, _, err = dcomp("prune", "resnet.safetensors", "--sparsity", "0.5", "--epochs", "1", "--until", "0")
    assert code == 0, err
    assert dcomp("encode", "resnet.pruned.safetensors", "-o", "resnet.dcz")[0] == 0
    assert dcomp("eval", "resnet.dcz")[0] == 0


def test_a_language_model_trains_is_pruned_and_imitates_its_dense_self(work, dcomp):
    code, _, err = dcomp("train", "transformers:gpt2", "--data", "tiny_lines:task", "--epochs", "3", *TRAINING)
    assert code == 0, err
    imitation = ["--distill", "gpt2.safetensors", "--alpha", "1", "--data", "tiny_lines:lines"]
    pruning = ["--sparsity", "0.5", "--epochs", "4", "--schedule", "oneshot", *TRAINING, "--json"]
    for kind in (["--distill-loss", "kl"], ["--distill-loss", "cosine", "--distill-at", r"transformer\.h\.0"]):
        code, out, err = dcomp("prune", "gpt2.safetensors", *pruning, *imitation, *kind, "-f")
        assert code == 0, err
        losses = [epoch["val_loss"] for epoch in json.loads(out)["epochs"]]
        assert losses[-1] < losses[0]
    code, out, err = dcomp("eval", "gpt2.pruned.safetensors", "--data", "tiny_lines:task")
    assert code == 0, err
    assert "loss" in out


def test_a_folder_names_its_network(work, dcomp):
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config.from_pretrained(work / "gpt2"))
    model.save_pretrained(work / "full")
    pruning = ["--sparsity", "0.5", "--epochs", "1", "--until", "0", *TRAINING]
    code, _, err = dcomp("prune", "full", *pruning, "--data", "tiny_lines:task", "-o", "pruned")
    assert code == 0, err
    again = transformers.GPT2LMHeadModel.from_pretrained(work / "pruned")
    weight = again.transformer.h[0].mlp.c_fc.weight
    assert 0 < (weight == 0).sum() < weight.numel()
    assert dcomp("encode", "pruned", "-o", "pruned.dcz")[0] == 0
    code, _, err = dcomp("eval", "pruned.dcz", "--data", "tiny_lines:task")
    assert code == 0, err


RECIPE = "name: r\ndata: digits\ntrain: {architecture: 'transformers:resnet', epochs: 1}\nquantize: {bits: 4}\n"


def test_a_recipe_runs_again_where_the_config_changes(work, dcomp):
    (work / "r.yaml").write_text(RECIPE)
    assert dcomp("run", "r.yaml")[0] == 0
    assert "train: done before" in dcomp("run", "r.yaml")[2]
    config = json.loads((work / "resnet" / "config.json").read_text())
    (work / "resnet" / "config.json").write_text(json.dumps(config | {"embedding_size": 8}))
    code, _, err = dcomp("run", "r.yaml")
    assert code == 0, err
    assert "train: running" in err


def test_a_recipe_without_the_folder_says_so(work, dcomp):
    (work / "r.yaml").write_text(RECIPE.replace("resnet", "absent"))
    code, _, err = dcomp("run", "r.yaml")
    assert code == 1
    assert "absent/config.json" in err
