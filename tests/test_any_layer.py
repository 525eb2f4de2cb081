"""Networks with layers of every kind go through all stages, and come back as they went."""

import io
import sys

import numpy as np
import pytest

from dcomp import stages
from dcomp.container.reader import Container
from dcomp.container.verification import identical
from dcomp.learning import architectures
from dcomp.settings import EvalSettings, PruneSettings, QuantizeSettings, SensitivitySettings, TrainSettings

NETWORKS = '''
import torch
from torch import nn


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(32, 16)
        self.places = nn.Embedding(8, 16)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.narrow = nn.Linear(16, 8, bias=False)
        self.attention = nn.MultiheadAttention(16, 4, vdim=8, batch_first=True)  # projections of their own
        self.out = nn.Linear(16, 32, bias=False)
        self.out.weight = self.words.weight
        self.head = nn.Linear(32, 4)

    def forward(self, images):
        words = (images.mean((1, 3)).sigmoid() * 31).long()
        x = self.block(self.words(words) + self.places.weight)
        x = x + self.attention(x, x, self.narrow(x), need_weights=False)[0]
        return self.head(self.out(x).mean(1))


class Wrapped(nn.Module):
    """A network that has to be told its classes, with a buffer that looks like a matrix."""

    def __init__(self, classes):
        super().__init__()
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
        self.model[1].register_buffer("places", torch.linspace(0.1, 1, 256).reshape(4, 64))

    def forward(self, images):
        return self.model(images)


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.dropout = nn.Dropout2d(0.2)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.scale = nn.GroupNorm(2, 4)
        self.line = nn.Conv1d(4, 4, 3)
        self.head = nn.Linear(4, 4)

    def forward(self, images):
        x = self.norm(self.first(images)).relu()
        x = self.scale(self.up(self.dropout(self.grouped(x).relu())))
        return self.head(self.line(x.flatten(2)).mean(2))
'''

DATA = """
import torch
from dcomp.learning.datasets import Dataset, MemorySplit, Preprocessing


def make(channels, side):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, channels, side, side), dtype=torch.uint8, generator=generator)
    split = MemorySplit(images, torch.arange(64) % 4, Preprocessing((0.5,), (0.3,)))
    return Dataset(split, split)


def small():
    return make(1, 8)


def colored():
    return make(3, 32)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "anynet.py").write_text(NETWORKS)
    (tmp_path / "anydata.py").write_text(DATA)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])


def compressed(name, data):
    """Train, prune, share, encode and decode, each checked: the checkpoint that comes out."""
    common = {"data": data, "epochs": 1, "batch_size": 16}
    dense = stages.train(TrainSettings(architecture=name, **common))
    pruned = stages.prune(dense, PruneSettings(sparsity=0.5, until=0, **common), architecture=name)
    shared = stages.quantize(pruned, QuantizeSettings(conv_bits=3, fc_bits=3, **common), architecture=name)
    zeros = total = 0
    for key, array in pruned.tensors.items():
        assert array.dtype == dense.tensors[key].dtype
        if array.ndim > 1 and key != "out.weight":  # which is words.weight
            zeros, total = zeros + np.count_nonzero(array == 0), total + array.size
            assert np.array_equal(array == 0, shared.tensors[key] == 0), key
            assert np.unique(shared.tensors[key][array != 0]).size <= 8, key
    assert zeros / total == pytest.approx(0.5, abs=0.001)
    stream = io.BytesIO()
    stages.encode(shared, stream)
    decoded = stages.decode(Container(stream.getbuffer()))
    assert identical(decoded, shared)
    assert np.isfinite(stages.evaluate(decoded, EvalSettings(data=data), architecture=name).loss)
    return decoded


@pytest.mark.parametrize("kind", ["Transformer", "Convolutions"])
def test_a_network_of_ones_own_with_any_layers_goes_through_every_stage(own, kind):
    decoded = compressed(f"anynet:{kind}", "anydata:small")
    model = architectures.build(f"anynet:{kind}")
    architectures.load_into(model, decoded, kind)
    for key, array in architectures.tensors_of(model).items():
        assert np.array_equal(array, decoded.tensors[key])
    if kind == "Transformer":
        assert np.array_equal(decoded.tensors["words.weight"], decoded.tensors["out.weight"])


@pytest.mark.parametrize("name", ["words", "out"])
def test_tied_weights_retrain_to_the_sparsity_asked_for_by_either_name(own, name):
    common = {"data": "anydata:small", "epochs": 1, "batch_size": 16}
    dense = stages.train(TrainSettings(architecture="anynet:Transformer", **common))
    settings = PruneSettings(layer=f"{name}=0.3", sparsity=0.5, criterion="random", at=[0, 0.5], **common)
    pruned = stages.prune(dense, settings, architecture="anynet:Transformer").tensors
    assert np.array_equal(pruned["words.weight"], pruned["out.weight"])
    assert np.count_nonzero(pruned["out.weight"] == 0) == round(32 * 16 * 0.3)
    curves = stages.sensitivity(
        dense,
        SensitivitySettings(data="anydata:small", prune="0.5", bits="none", val_split=0.5),
        architecture="anynet:Transformer",
    ).curves
    assert "out.weight" not in [curve.layer for curve in curves]


def test_a_wrapped_network_is_built_with_its_arguments_and_its_buffers_are_left_alone(own):
    network = {"architecture": "anynet:Wrapped"}
    given = {"data": "anydata:small", "classes": 4}
    common = {**given, "epochs": 1, "batch_size": 16}
    dense = stages.train(TrainSettings(**network, **common))
    assert all(name.startswith("model.") for name in dense.tensors)
    assert stages.evaluate(dense, EvalSettings(data="anydata:small"), **network).count == 64
    pruned = stages.prune(dense, PruneSettings(sparsity=0.5, until=0, **common), **network)
    assert np.count_nonzero(pruned.tensors["model.1.weight"] == 0) == 128
    assert np.array_equal(pruned.tensors["model.1.places"], dense.tensors["model.1.places"])
    shared = stages.quantize(dense, QuantizeSettings(fc_bits=2, **common), **network)
    assert np.unique(shared.tensors["model.1.weight"]).size <= 4
    assert np.array_equal(shared.tensors["model.1.places"], dense.tensors["model.1.places"])


def test_vgg16_for_cifar_goes_through_every_stage(own):
    decoded = compressed("vgg16-cifar", "anydata:colored")
    assert decoded.metadata["dcomp.arguments"] == '{"classes":4}'
    assert decoded.tensors["norm5_3.running_var"].shape == (512,)
