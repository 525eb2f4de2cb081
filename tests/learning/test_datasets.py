import sys

import numpy as np
import pytest
import torch
from PIL import Image

from dcomp.errors import DataError, UsageError
from dcomp.learning import datasets
from dcomp.learning.datasets import ImageForm, MemorySplit, Preprocessing
from dcomp.learning.task_data import TaskData
from dcomp.settings import DATA_NAMES, DataSettings, EvalSettings


def normalized(split, count):
    images, labels = next(split.batches([torch.arange(min(count, len(split)))]))
    return split.preprocessing.test(images), labels


def test_digits_are_1797_images_of_28_by_28():
    data = datasets.load("digits")
    assert len(data.train) + len(data.test) == 1797
    assert data.train.images.shape[1:] == (1, 28, 28)
    images, labels = normalized(data.train, 1000)
    assert (images.mean().abs() < 0.1, (images.std() - 1).abs() < 0.1) == (True, True)
    assert set(labels.tolist()) == set(range(10))


def test_mnist_has_60000_and_10000_images(mnist_dir):
    data = datasets.load("mnist", mnist_dir)
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    images, _ = normalized(data.train, 10_000)
    assert (images.mean().abs() < 0.02, (images.std() - 1).abs() < 0.02) == (True, True)


def test_data_is_found_through_the_environment(mnist_dir, monkeypatch):
    monkeypatch.setenv("DCOMP_DATA", str(mnist_dir))
    assert len(datasets.load("mnist").test) == 10_000


def task_data(data):
    return TaskData.of(data, "owndata:text", DataSettings())


def test_the_validation_split_is_disjoint_and_depends_on_the_seed():
    split = MemorySplit(torch.arange(100).reshape(100, 1, 1, 1), torch.arange(100), Preprocessing((0,), (1,)))
    data = task_data(datasets.Dataset(split, split))
    train, validation = (part.split.labels.tolist() for part in data.split_validation(0.2, seed=1))
    assert sorted([*train, *validation]) == list(range(100))
    assert len(validation) == 20
    assert data.split_validation(0.2, seed=2)[1].split.labels.tolist() != validation


def test_a_validation_split_must_leave_something_to_train_on():
    data = task_data(datasets.load("digits"))
    with pytest.raises(UsageError, match="leaves no example to train on"):
        data.split_validation(0.9999, seed=0)


def test_an_unknown_data_set_lists_the_known_ones():
    with pytest.raises(DataError, match="no data set 'cifar'; did you mean cifar10"):
        datasets.load("cifar")


def test_data_that_cannot_be_downloaded_says_what_to_put_where(tmp_path, monkeypatch):
    from dcomp.learning import vision

    def no_network(*_: object, **__: object) -> None:
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr(vision.datasets.MNIST, "download", no_network)
    with pytest.raises(
        DataError, match=rf"MNIST is not there .*put .*images-idx3-ubyte.* in {tmp_path}/MNIST/raw, or .*--data-dir"
    ):
        datasets.load("mnist", tmp_path)


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"dcomp\[demo\]"):
        datasets.load("digits")


class FakeCifar:
    """What torchvision gives, without its files."""

    classes = tuple("abcdefghij")

    def __init__(self, root, train, download):
        count = 20 if train else 10
        self.data = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        self.targets = [number % 10 for number in range(count)]


@pytest.fixture
def cifar(monkeypatch):
    from dcomp.learning import vision

    monkeypatch.setattr(vision.datasets, "CIFAR10", FakeCifar)
    return FakeCifar("", True, True)


def test_cifar_has_three_channels_and_is_cut_and_mirrored(cifar):
    train = datasets.load("cifar10").train
    images, labels = next(train.batches([torch.tensor([3, 1])]))
    assert torch.equal(images[0], torch.from_numpy(cifar.data[3]).movedim(-1, 0))
    assert (labels.tolist(), train.classes, train.channels, train.size) == ([3, 1], 10, 3, 32)
    assert train.preprocessing.usual == "crop-flip"


def test_a_grayscale_network_sees_cifar_as_pil_would(cifar):
    train = datasets.load("cifar10", form=ImageForm(grayscale=True)).train
    expected = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in cifar.data])
    assert (train.images.squeeze(1).numpy().astype(int) - expected).max() <= 1
    assert train.preprocessing.test(train.images).shape == (20, 1, 32, 32)


def test_a_color_network_sees_gray_images_in_three_channels():
    split = datasets.load("digits", form=ImageForm(grayscale=False)).test
    assert split.channels == 3
    assert torch.equal(split.images[:, 0], split.images[:, 2])


def test_images_are_cut_and_never_enlarged():
    assert datasets.load("digits", form=ImageForm(crop=20)).test.size == 20
    with pytest.raises(DataError, match="the images of digits are 28x28, and the network takes 40x40"):
        datasets.load("digits", form=ImageForm(crop=40))


def test_a_data_set_of_ones_own_is_made_by_its_factory(tmp_path, monkeypatch):
    (tmp_path / "owndata.py").write_text(
        "from dcomp.learning import datasets\ndef tiny(): return datasets.load('digits')\ndef text(): return 'x'\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    assert len(datasets.load("owndata:tiny").test) == 359
    with pytest.raises(DataError, match="owndata:text returned a str; a factory of data returns one of"):
        task_data(datasets.load("owndata:text"))
    with pytest.raises(DataError, match="cannot make owndata:none: AttributeError"):
        datasets.load("owndata:none")


@pytest.mark.parametrize(
    "code", ["import sys\nsys.exit()", "import argparse\nargparse.ArgumentParser().parse_args(['x'])"]
)
def test_a_module_that_ends_the_program_is_an_error_with_its_name(tmp_path, monkeypatch, code):
    (tmp_path / "ending.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    with pytest.raises(DataError, match="cannot make ending:data: SystemExit"):
        datasets.load("ending:data")


def test_a_task_without_what_it_needs_is_shown_the_right_form(tmp_path, monkeypatch):
    (tmp_path / "halftask.py").write_text("import dcomp\ndef made(): return dcomp.Task(train=[], loss=len)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DataError, match=r"required keyword-only argument: 'test'; a factory of data returns one of"):
        datasets.load("halftask:made")


@pytest.mark.parametrize("name", [name for name in DATA_NAMES if ":" not in name])
def test_every_name_that_settings_take_is_known_here(name):
    assert EvalSettings(data=name).data == name
    assert name in datasets.SMALL_IMAGE_SETS or name == "imagenette"
