"""Networks of Transformers, from a folder's config.json or the config that a checkpoint records."""

import json
import socket
import sys

import numpy as np
import pytest
import torch

from dcomp import sources
from dcomp.checkpoints.checkpoint import ARCHITECTURE_KEY, Checkpoint
from dcomp.errors import ArchitectureError
from dcomp.learning import architectures, vision  # noqa: F401  # vision declares what Transformers' torchvision lacks
from dcomp.learning.architectures import transformers_networks
from dcomp.learning.architectures.arguments import ARGUMENTS_KEY, Arguments, metadata
from dcomp.learning.networks import filled
from dcomp.settings import DataSettings, TrainSettings
from dcomp.settings.built_in_networks import BUILT_IN_NETWORKS

transformers = pytest.importorskip("transformers")
huggingface_hub = pytest.importorskip("huggingface_hub")

IDS = torch.tensor([[1, 2, 3, 4]])


def config_of(kind):
    if kind == "GPT2LMHeadModel":
        sizes = {"n_layer": 1, "n_head": 2, "n_embd": 8, "vocab_size": 32, "n_positions": 16}
        return transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return transformers.BertConfig(**sizes, vocab_size=32, max_position_embeddings=16, num_labels=3)


@pytest.fixture(params=["GPT2LMHeadModel", "BertForSequenceClassification"])
def folder(request, tmp_path):
    """A folder of a network, as save_pretrained writes it."""
    torch.manual_seed(0)
    getattr(transformers, request.param)(config_of(request.param)).save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def gpt2(tmp_path):
    """A folder with the config of a language model alone."""
    config = config_of("GPT2LMHeadModel")
    config.architectures = ["GPT2LMHeadModel"]
    config.save_pretrained(tmp_path / "gpt2")
    return tmp_path / "gpt2"


def arguments_of(architecture, checkpoint=None):
    return Arguments(architecture, checkpoint, DataSettings()).explicit


def test_the_network_of_a_folder_takes_the_weights_of_the_folder(folder):
    name = f"transformers:{folder}"
    model = architectures.build(name, arguments_of(name))
    checkpoint = sources.load_checkpoint(folder / "model.safetensors")
    architectures.load_into(model, checkpoint, name)
    original = getattr(transformers, type(model).__name__).from_pretrained(folder)
    state = original.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    with torch.no_grad():
        assert torch.allclose(model.eval()(IDS).logits, original.eval()(IDS).logits)


def test_a_weight_that_the_file_names_once_stays_tied(tmp_path, gpt2):
    model = architectures.build(f"transformers:{gpt2}")
    tensors = {key: array for key, array in architectures.tensors_of(model).items() if key != "lm_head.weight"}
    assert len(tensors) < len(model.state_dict())
    other = architectures.build(f"transformers:{gpt2}")
    architectures.load_into(other, Checkpoint(tensors), "gpt2")
    assert other.lm_head.weight is other.transformer.wte.weight
    assert np.array_equal(architectures.tensors_of(other)["lm_head.weight"], tensors["transformer.wte.weight"])
    assert architectures.parameters_of(other)["lm_head.weight"] == "transformer.wte.weight"


def test_an_outline_takes_no_memory_and_has_the_same_names(folder):
    name = f"transformers:{folder}"
    outline = architectures.outline_of(name, arguments_of(name))
    assert all(parameter.is_meta for parameter in outline.parameters())
    assert architectures.parameters_of(outline) == architectures.parameters_of(architectures.build(name))


def test_paths_may_be_relative_or_begin_at_home(gpt2, monkeypatch):
    monkeypatch.chdir(gpt2.parent)
    monkeypatch.setenv("HOME", str(gpt2.parent))
    for name in ("transformers:gpt2", "transformers:~/gpt2", "Transformers:./gpt2"):
        assert type(architectures.build(name)).__name__ == "GPT2LMHeadModel"
    assert TrainSettings(architecture="transformers:~/gpt2").architecture == f"transformers:{gpt2}"


def recorded(gpt2):
    """Return a checkpoint that records the network of a folder."""
    name = f"transformers:{gpt2}"
    model = architectures.build(name)
    return Checkpoint(architectures.tensors_of(model), metadata(arguments_of(name)))


def test_a_checkpoint_builds_its_network_without_the_folder_and_without_trust(gpt2, monkeypatch):
    checkpoint = recorded(gpt2)
    gpt2.rename(gpt2.with_name("elsewhere"))
    name = architectures.architecture_of(checkpoint)
    assert name == "transformers:GPT2LMHeadModel"
    model = architectures.build(name, arguments_of(name, checkpoint))
    architectures.load_into(model, checkpoint, name)
    assert model(IDS).logits.shape == (1, 4, 32)


def test_neither_paths_nor_versions_are_recorded(gpt2):
    text = "".join(recorded(gpt2).metadata.values())
    assert "vocab_size" in text
    assert not any(word in text for word in (str(gpt2.parent), "transformers_version", "_name_or_path", "dtype"))


def test_the_config_beside_a_checkpoint_names_its_network(folder):
    checkpoint = sources.load_checkpoint(folder)
    name = architectures.architecture_of(checkpoint)
    assert name == f"transformers:{json.loads((folder / 'config.json').read_text())['architectures'][0]}"
    model = architectures.build(name, arguments_of(name, checkpoint))
    architectures.load_into(model, checkpoint, name)


@pytest.mark.parametrize("text", ["{", "[]", '{"_class_name": "UNet2DModel"}', "[" * 100_000])
def test_a_config_of_another_library_names_no_network(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(ArchitectureError, match="does not say which architecture"):
        architectures.architecture_of(sources.load_checkpoint(folder))


def test_a_folder_that_a_person_names_counts_before_the_recorded_config(gpt2):
    checkpoint = recorded(gpt2)
    config = json.loads((gpt2 / "config.json").read_text())
    (gpt2 / "config.json").write_text(json.dumps(config | {"n_positions": 8}))
    name = architectures.architecture_of(checkpoint, f"transformers:{gpt2}")
    assert arguments_of(name, checkpoint)["config"]["n_positions"] == 8
    assert "config" not in arguments_of("lenet5", checkpoint)


def test_settings_note_the_folder_but_not_its_place_and_depend_on_its_config(gpt2):
    settings = TrainSettings(architecture=f"transformers:{gpt2}")
    assert settings.arguments()["architecture"] == "transformers:gpt2"
    assert settings.named_files() == {"architecture": gpt2 / "config.json"}
    assert TrainSettings(architecture="lenet5").named_files() == {}
    assert {TrainSettings(architecture=name).arguments()["architecture"] for name in BUILT_IN_NETWORKS} == {
        *BUILT_IN_NETWORKS
    }


def broken(gpt2, content):
    (gpt2 / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return f"transformers:{gpt2}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"config\.json is no JSON"),
        ("[" * 100_000, r"config\.json is no JSON"),
        ([1], r'config\.json does not say which class of Transformers it is for: add "architectures", as in'),
        ({"model_type": "gpt2"}, r'add "architectures"'),
        ({"architectures": []}, r'add "architectures"'),
        ({"architectures": ["NoSuchModel"]}, r"Transformers [\d.]+ has no network 'NoSuchModel'; a newer version"),
        ({"architectures": ["os"]}, "has no network 'os'"),
        ({"architectures": ["PreTrainedModel"]}, "has no network 'PreTrainedModel'"),
        (
            {"architectures": ["GPT2LMHeadModel"], "n_layer": "x"},
            "cannot make GPT2LMHeadModel from its config: .*n_layer",
        ),
        (
            {"architectures": ["GPT2LMHeadModel"], "n_embd": 7},
            "cannot make GPT2LMHeadModel from its config: .*divisible",
        ),
        ({"architectures": ["GPT2LMHeadModel"], "vocab_size": 10**15}, "cannot make transformers:.*memory"),
    ],
    ids=range(11),
)
def test_a_config_with_a_mistake_is_one_clear_error(gpt2, content, message):
    with pytest.raises(ArchitectureError, match=message):
        architectures.build(broken(gpt2, content))


def test_a_config_that_asks_for_endless_layers_is_refused(gpt2, monkeypatch):
    monkeypatch.setattr(transformers_networks, "MAX_MODULES", 200)
    content = json.loads((gpt2 / "config.json").read_text())
    with pytest.raises(ArchitectureError, match="the config asks for more than 200 modules"):
        architectures.build(broken(gpt2, content | {"n_layer": 199}))
    for endless in ({"n_layer": 10**9}, {"text_config": {"num_hidden_layers": 10**9}}):
        with pytest.raises(
            ArchitectureError, match=r"the config asks for 1,000,000,000 of .*layer.*; at most 200 are made"
        ):
            architectures.build(broken(gpt2, content | endless))


def test_a_config_that_asks_for_endless_labels_or_levels_is_refused(gpt2):
    content = json.loads((gpt2 / "config.json").read_text())
    with pytest.raises(ArchitectureError, match=r"the config asks for 1,000,000,000 of num_labels; at most 100,000"):
        architectures.build(broken(gpt2, content | {"num_labels": 10**9}))
    nested = {}
    for _ in range(900):
        nested = {"sub_config": nested}
    with pytest.raises(ArchitectureError, match="the config nests its entries deeper than 32 levels"):
        arguments_of(broken(gpt2, content | nested))


def test_an_outline_that_fails_is_not_tried_again_in_memory(gpt2, monkeypatch):
    devices = []

    def fail(*_):
        devices.append(torch.empty(0).device.type)
        raise ArchitectureError("too large")

    monkeypatch.setattr(transformers_networks, "_check_counts", fail)
    with pytest.raises(ArchitectureError, match="too large"):
        architectures.outline_of(f"transformers:{gpt2}")
    assert devices == ["meta"]


def test_a_config_that_names_a_repository_makes_no_connection(gpt2, monkeypatch):
    def connect(*_, **__):
        pytest.fail("a connection is tried")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    content = {"architectures": ["DPTForDepthEstimation"], "backbone": "someone/network", "is_hybrid": False}
    with pytest.raises(ArchitectureError, match=r"cannot make DPTForDepthEstimation from its config: .*offline"):
        architectures.build(broken(gpt2, content))
    assert before == huggingface_hub.constants.HF_HUB_OFFLINE


def test_a_config_larger_than_its_checkpoint_takes_no_memory(gpt2, monkeypatch):
    devices = []
    build = architectures.build

    def watched(*arguments):
        devices.append(torch.empty(0).device.type)
        return build(*arguments)

    monkeypatch.setattr(architectures, "build", watched)
    config = json.loads((gpt2 / "config.json").read_text()) | {"vocab_size": 10**9}
    with pytest.raises(ArchitectureError, match=r"does not fit transformers:GPT2LMHeadModel: .*1000000000"):
        filled("transformers:GPT2LMHeadModel", {"config": config}, Checkpoint({}))
    assert devices == ["meta"]


def test_an_absent_folder_or_file_says_what_to_name(tmp_path):
    with pytest.raises(ArchitectureError, match=r"transformers:gpt2: there is no such folder; name one with a config"):
        architectures.build("transformers:gpt2")
    with pytest.raises(ArchitectureError, match=rf"cannot read {tmp_path}/config\.json: No such file"):
        architectures.build(f"transformers:{tmp_path}")


def test_what_a_config_would_download_is_left_out(gpt2):
    content = json.loads((gpt2 / "config.json").read_text())
    hostile = {"auto_map": {"AutoConfig": "evil.Config"}, "attn_implementation": "evil/kernel", "_name_or_path": "/me"}
    name = broken(gpt2, content | hostile | {"more": [hostile, {"quantization_config": {}}]})
    config = transformers_networks.read_config(str(gpt2))
    assert config["more"] == [{}, {}]
    assert not hostile.keys() & config.keys()
    assert architectures.build(name, {"config": content | hostile})(IDS).logits.shape == (1, 4, 32)


def test_a_recorded_config_that_is_none_is_an_error(gpt2):
    name = "transformers:GPT2LMHeadModel"
    for text in ('{"config": 5}', '{"config": "abc"}', '{"config": [1]}'):
        hostile = Checkpoint({}, {ARCHITECTURE_KEY: name, ARGUMENTS_KEY: text})
        with pytest.raises(ArchitectureError, match=r"dcomp\.arguments is .* which no network takes"):
            arguments_of(name, hostile)
    with pytest.raises(
        ArchitectureError, match=r"records no config of transformers:.*; add --arch transformers:FOLDER"
    ):
        arguments_of(name, Checkpoint({}, {ARCHITECTURE_KEY: name}))


def test_a_checkpoint_cannot_make_dcomp_read_a_folder(gpt2):
    name = f"transformers:{gpt2}"
    with pytest.raises(ArchitectureError, match="records no config"):
        arguments_of(name, Checkpoint({}, {ARCHITECTURE_KEY: name}))


def test_arguments_of_other_networks_are_refused(gpt2):
    with pytest.raises(ArchitectureError, match=r"takes no classes and no dropout: change its config\.json"):
        architectures.build(f"transformers:{gpt2}", {"classes": 3, "dropout": 0.5})


def test_without_the_library_the_extra_is_named(gpt2, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ArchitectureError, match=r"pip install 'dcomp\[transformers\]'"):
        architectures.build(f"transformers:{gpt2}")


def test_a_name_in_messages_is_that_of_the_folder(gpt2):
    model = architectures.build(f"transformers:{gpt2}")
    with pytest.raises(ArchitectureError, match=r"does not fit transformers:.*gpt2: fc1"):
        architectures.load_into(model, Checkpoint({"fc1.weight": np.zeros(2)}), f"transformers:{gpt2}")
