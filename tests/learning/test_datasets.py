import sys

import pytest
import torch

from dcomp.errors import DataError, UsageError
from dcomp.learning import datasets
from dcomp.learning.datasets import Split


def test_digits_are_1797_images_of_28_by_28():
    data = datasets.load("digits")
    assert len(data.train) + len(data.test) == 1797
    assert data.train.images.shape[1:] == (1, 28, 28)
    images, labels = data.train.batch(slice(0, 1000))
    assert (images.mean().abs() < 0.1, (images.std() - 1).abs() < 0.1) == (True, True)
    assert set(labels.tolist()) == set(range(10))


def test_mnist_has_60000_and_10000_images(mnist_dir):
    data = datasets.load("mnist", mnist_dir)
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    images, _ = data.train.batch(slice(0, 10_000))
    assert (images.mean().abs() < 0.02, (images.std() - 1).abs() < 0.02) == (True, True)


def test_data_is_found_through_the_environment(mnist_dir, monkeypatch):
    monkeypatch.setenv("DCOMP_DATA", str(mnist_dir))
    assert len(datasets.load("mnist").test) == 10_000


def test_the_validation_split_is_disjoint_and_depends_on_the_seed():
    data = datasets.Dataset(*(Split(torch.arange(100).reshape(100, 1, 1, 1), torch.arange(100), 0, 1),) * 2)
    train, validation = data.split_validation(0.2, seed=1)
    assert sorted([*train.labels.tolist(), *validation.labels.tolist()]) == list(range(100))
    assert len(validation) == 20
    assert data.split_validation(0.2, seed=2)[1].labels.tolist() != validation.labels.tolist()


def test_a_validation_split_must_leave_something_to_train_on():
    data = datasets.load("digits")
    with pytest.raises(UsageError, match="leaves no example to train on"):
        data.split_validation(0.9999, seed=0)


def test_an_unknown_data_set_lists_the_known_ones():
    with pytest.raises(DataError, match="no data set 'cifar'; there are mnist, fashion-mnist, digits"):
        datasets.load("cifar")


def test_data_that_cannot_be_downloaded_says_what_to_put_where(tmp_path, monkeypatch):
    from dcomp.learning import vision

    def no_network(*_: object, **__: object) -> None:
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr(vision.datasets.MNIST, "download", no_network)
    with pytest.raises(DataError, match=rf"not in {tmp_path}/MNIST/raw .*put .*images-idx3-ubyte.*--data-dir"):
        datasets.load("mnist", tmp_path)


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"dcomp\[demo\]"):
        datasets.load("digits")
