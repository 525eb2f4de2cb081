import pytest
import torch
from torch import nn

from dcomp.checkpoints.checkpoint import ARCHITECTURE_KEY, Checkpoint
from dcomp.errors import ArchitectureError
from dcomp.learning import architectures, vision
from dcomp.learning.architectures import zoo

NAMES = ["resnet18", "squeezenet1_0", "mobilenet_v3_small", "densenet121", "shufflenet_v2_x0_5"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("grayscale", [False, True])
def test_classifiers_take_classes_and_channels(name, grayscale):
    model = architectures.build(f"torchvision:{name}", {"classes": 7, "grayscale": grayscale})
    assert model.eval()(torch.zeros(1, 1 if grayscale else 3, 64, 64)).shape == (1, 7)


def test_classifiers_see_what_torchvision_trains_them_on():
    assert architectures.find("torchvision:resnet18").defaults["size"] == 224
    assert architectures.find("torchvision:inception_v3").defaults["size"] == 299


def test_heads_halfway_are_left_out_and_transformers_get_the_image_size():
    with torch.device("meta"):
        assert isinstance(architectures.build("torchvision:vit_b_16", {"size": 64, "dropout": 0.3}), nn.Module)
    model = architectures.build("torchvision:googlenet", {"classes": 4}).train()
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 4)


def test_a_checkpoint_may_name_a_classifier_of_torchvisions():
    named = Checkpoint({}, {ARCHITECTURE_KEY: "torchvision:resnet18"})
    assert architectures.architecture_of(named) == "torchvision:resnet18"
    with pytest.raises(ArchitectureError, match="torchvision has no classifier 'os'"):
        architectures.build("torchvision:os")


def test_pretrained_weights_fill_all_layers_but_those_that_differ(monkeypatch):
    torch.manual_seed(0)
    published = vision.models.resnet18(num_classes=1000).state_dict()
    enum = vision.models.get_model_weights("resnet18")
    monkeypatch.setattr(enum, "get_state_dict", lambda self, progress: published)
    model = architectures.build("torchvision:resnet18", {"classes": 5, "grayscale": True})
    before = model.fc.weight.clone()
    architectures.load_pretrained(model, "torchvision:resnet18")
    assert torch.equal(model.layer4[1].conv2.weight, published["layer4.1.conv2.weight"])
    torch.testing.assert_close(model.conv1.weight, published["conv1.weight"].sum(1, keepdim=True))
    assert torch.equal(model.fc.weight, before)


def test_weights_that_cannot_be_downloaded_say_what_to_put_where(monkeypatch):
    def no_network(self, progress):
        raise OSError("no network")

    monkeypatch.setattr(vision.models.get_model_weights("resnet18"), "get_state_dict", no_network)
    with pytest.raises(ArchitectureError, match=r"no network\); put https://.*resnet18.*\.pth into .*checkpoints"):
        zoo.fill(architectures.build("torchvision:resnet18"), "resnet18")
