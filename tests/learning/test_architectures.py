import numpy as np
import pytest
import torch

from dcomp.checkpoint import Checkpoint
from dcomp.errors import ArchitectureError
from dcomp.learning import architectures


@pytest.mark.parametrize(("name", "parameters"), [("lenet300", 266_610), ("lenet5", 431_080)])
def test_networks_have_the_papers_number_of_parameters_and_ten_outputs(name, parameters):
    model = architectures.build(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ArchitectureError, match="no architecture 'lenet6'; there are lenet300, lenet5"):
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
    hostile = Checkpoint({}, {architectures.ARCHITECTURE_KEY: "os:getcwd"})
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
