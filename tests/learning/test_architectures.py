import numpy as np
import pytest
import torch

from dcomp.checkpoints.checkpoint import ARCHITECTURE_KEY, Checkpoint
from dcomp.errors import ArchitectureError
from dcomp.learning import architectures
from dcomp.learning.architectures.arguments import ARGUMENTS_KEY, RESIZE_KEY, Arguments, metadata
from dcomp.learning.datasets import MemorySplit, Preprocessing
from dcomp.learning.examples.images import ImageExamples
from dcomp.settings import DataSettings
from dcomp.settings.built_in_networks import BUILT_IN_NETWORKS

PARAMETERS = {"lenet300": 266_610, "lenet5": 431_080, "alexnet": 60_965_224, "vgg16": 138_357_544}


@pytest.mark.parametrize("name", PARAMETERS)
def test_networks_have_the_papers_number_of_parameters(name):
    with torch.device("meta"):
        model = architectures.build(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize(("name", "size"), [("lenet300", 20), ("lenet5", 32), ("alexnet", 67), ("vgg16-cifar", 48)])
@pytest.mark.parametrize("grayscale", [False, True])
def test_networks_take_classes_channels_and_sizes(name, size, grayscale):
    model = architectures.build(name, {"classes": 7, "grayscale": grayscale, "size": size})
    assert model.eval()(torch.zeros(2, 1 if grayscale else 3, size, size)).shape == (2, 7)


@pytest.mark.parametrize("name", BUILT_IN_NETWORKS)
def test_every_registered_network_takes_dropout(name):
    size = BUILT_IN_NETWORKS[name].size
    with torch.device("meta"):
        model = architectures.build(name, {"dropout": 0.25})
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.25}
    assert size in (28, 32, 224, 227)


def test_alexnet_has_the_layers_of_the_papers_table_4():
    with torch.device("meta"):
        weights = {name: tuple(value.shape) for name, value in architectures.build("alexnet").state_dict().items()}
    assert [name for name in weights if name.endswith("weight")] == [
        *(f"conv{number}.weight" for number in range(1, 6)),
        *(f"fc{number}.weight" for number in (6, 7, 8)),
    ]
    assert weights["conv2.weight"] == (256, 48, 5, 5)  # two groups
    assert weights["fc6.weight"] == (4096, 9216)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        ArchitectureError, match="no architecture 'lenet6'; did you mean lenet5\\? There are lenet300, lenet5"
    ):
        architectures.build("lenet6")


def test_a_factory_of_the_user_is_called(tmp_path, monkeypatch):
    (tmp_path / "mynet.py").write_text(
        "import torch\ndef tiny(): return torch.nn.Linear(2, 3)\ndef text(): return 'x'\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert isinstance(architectures.build("mynet:tiny"), torch.nn.Linear)
    with pytest.raises(ArchitectureError, match="made a str"):
        architectures.build("mynet:text")
    with pytest.raises(ArchitectureError, match="cannot make mynet:none: AttributeError"):
        architectures.build("mynet:none")


def test_a_checkpoint_that_names_code_to_import_is_not_followed():
    hostile = Checkpoint({}, {ARCHITECTURE_KEY: "os:getcwd"})
    with pytest.raises(ArchitectureError, match="if you trust that code, add --arch os:getcwd"):
        architectures.architecture_of(hostile)
    assert architectures.architecture_of(hostile, "lenet5") == "lenet5"


def test_a_checkpoint_without_architecture_says_what_to_add():
    with pytest.raises(ArchitectureError, match="add --arch NAME"):
        architectures.architecture_of(Checkpoint({}))


def test_a_checkpoint_of_another_network_lists_what_differs(lenet_like):
    model = architectures.build("lenet300")
    architectures.load_into(model, lenet_like, "lenet300")
    assert np.array_equal(architectures.tensors_of(model)["fc1.weight"], lenet_like.tensors["fc1.weight"])
    with pytest.raises(ArchitectureError, match=r"does not fit lenet5: fc1.weight is \(300, 784\).*and \d+ more"):
        architectures.load_into(architectures.build("lenet5"), lenet_like, "lenet5")


def split(channels, size, classes):
    images = torch.zeros(2, channels, size, size, dtype=torch.uint8)
    return MemorySplit(images, torch.zeros(2, dtype=torch.long), Preprocessing((0.0,), (1.0,)), classes)


def arguments(architecture, data, checkpoint=None, **given):
    return Arguments(architecture, checkpoint, DataSettings(**given)).complete(ImageExamples(data).form)


def test_a_fresh_network_fits_its_data_and_records_what_differs():
    assert arguments("lenet5", split(1, 28, 10)) == {}
    assert metadata({}) == {}
    assert arguments("lenet5", split(3, 32, 100)) == {"classes": 100, "grayscale": False, "size": 32}
    assert arguments("lenet5", split(1, 28, 10), dropout=0.5, classes=12) == {"classes": 12, "dropout": 0.5}


def test_settings_override_recorded_arguments():
    recorded = {"classes": 100, "grayscale": False, "size": 32}
    known = Checkpoint({}, {ARCHITECTURE_KEY: "lenet5", **metadata(recorded)})
    assert arguments("lenet5", split(3, 32, 10), known) == recorded
    assert arguments("lenet5", split(3, 32, 10), known, dropout=0.2) == {**recorded, "dropout": 0.2}
    assert Arguments("lenet5", known, DataSettings()).crop == 32
    plain = Checkpoint({}, {ARCHITECTURE_KEY: "lenet5"})
    assert arguments("lenet5", split(3, 32, 100), plain) == {}


@pytest.mark.parametrize("text", ["[]", "{", '{"classes": -1}', '{"size": "x"}', '{"code": 1}', "null"])
def test_recorded_arguments_that_make_no_sense_are_refused(text):
    hostile = Checkpoint({}, {ARGUMENTS_KEY: text})
    with pytest.raises(ArchitectureError, match=r"dcomp\.arguments is .* which no network takes"):
        Arguments("lenet5", hostile, DataSettings())


def test_settings_override_the_recorded_size_of_photos():
    known = Checkpoint({}, metadata({}, 160))
    assert Arguments("alexnet", known, DataSettings()).resize == 160
    assert Arguments("alexnet", known, DataSettings(resize=256)).resize == 256
    assert Arguments("alexnet", Checkpoint({}), DataSettings()).resize is None
    for text in ("0", "-1", "1e9", "x", ""):
        with pytest.raises(ArchitectureError, match=r"dcomp\.resize is .* which is no size of photos"):
            Arguments("alexnet", Checkpoint({}, {RESIZE_KEY: text}), DataSettings())


def test_a_factory_gets_the_explicit_arguments_only(tmp_path, monkeypatch):
    (tmp_path / "argnet.py").write_text(
        "import torch\n"
        "def make(**given):\n    model = torch.nn.Linear(2, 3)\n    model.given = given\n    return model\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    fresh = arguments("argnet:make", split(1, 28, 10))
    assert architectures.build("argnet:make", fresh).given == {}
    chosen = arguments("argnet:make", split(1, 28, 10), classes=4, grayscale=True)
    assert architectures.build("argnet:make", chosen).given == {"classes": 4, "grayscale": True}


def test_tied_weights_load_by_one_of_their_names():
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2, bias=False), "b": torch.nn.Linear(2, 2, bias=False)})
    model["b"].weight = model["a"].weight
    architectures.load_into(model, Checkpoint({"b.weight": np.eye(2, dtype=np.float32)}), "tied")
    assert torch.equal(model["a"].weight, torch.eye(2))
    with pytest.raises(ArchitectureError, match=r"a\.weight is absent"):
        architectures.load_into(model, Checkpoint({}), "tied")


def test_a_network_that_no_machine_can_hold_is_an_error():
    with pytest.raises(ArchitectureError, match=r"cannot make lenet5 with \{'classes': 1000000000000000\}"):
        architectures.build("lenet5", {"classes": 10**15})


@pytest.mark.parametrize("name", ["lenet5", "torchvision:regnet_x_400mf"])
def test_an_outline_has_the_names_of_the_network(name):
    outline, model = architectures.outline_of(name), architectures.build(name)
    assert architectures.parameters_of(outline) == architectures.parameters_of(model)
