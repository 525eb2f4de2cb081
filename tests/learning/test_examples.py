"""Examples of a user's task: batches of data sets and of loaders."""

import random
from collections import namedtuple

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from dcomp.errors import DataError, UsageError
from dcomp.learning.evaluation import evaluate
from dcomp.learning.examples import Draw
from dcomp.learning.examples.contents import size_of, to_device
from dcomp.learning.examples.items import ItemExamples
from dcomp.learning.examples.loaders import LoaderExamples
from dcomp.learning.objectives import TaskObjective
from dcomp.learning.task import Task

Pair = namedtuple("Pair", "input label")
MASKED = {"scale": torch.tensor(2.0), "tokens": torch.zeros(5, 7), "mask": torch.ones(5)}


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (torch.zeros(3, 2), 3),
        ((torch.zeros(4, 2), torch.zeros(4)), 4),
        ([torch.zeros(2, 9), "text"], 2),
        (MASKED, 5),
        (({"a": torch.zeros(6, 1)}, {"b": torch.zeros(6)}), 6),
        ([[torch.zeros(8, 2), torch.zeros(8, 3)], torch.zeros(8)], 8),
        (Pair(torch.zeros(7, 1), torch.zeros(7)), 7),
    ],
    ids=["tensor", "pair", "list with a text", "mapping", "pair of mappings", "two inputs", "named"],
)
def test_a_batch_has_as_many_examples_as_its_first_tensor_is_long(content, size):
    assert size_of(content) == size


@pytest.mark.parametrize("content", [torch.tensor(1.0), "text", {}, [torch.tensor(1.0)], None])
def test_a_batch_without_tensors_of_examples_is_an_error(content):
    with pytest.raises(DataError, match="number of examples in a batch is unknown"):
        size_of(content)


def test_contents_of_any_form_move_to_a_device():
    meta = torch.device("meta")
    moved = to_device({"pair": Pair(torch.zeros(2), torch.ones(2)), "list": [torch.zeros(1), 7], "text": "x"}, meta)
    assert isinstance(moved["pair"], Pair)
    assert moved["pair"].label.device == moved["list"][0].device == meta
    assert (moved["list"][1], moved["text"]) == (7, "x")


class Noisy(Dataset):
    """Numbers with noise by each library's random numbers."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return torch.tensor([index, torch.rand(()), np.random.rand(), random.random()], dtype=torch.float32)


def mean_of(model, batch):
    return model(batch).mean()


def objective(**changes):
    return TaskObjective(Task(train=[], test=[], **{"loss": mean_of, **changes}))


def items(workers=0, data=None):
    data = Noisy() if data is None else data
    return ItemExamples(data, objective(), workers, torch.arange(len(data)))


def draw(seed=1, **changes):
    return Draw(torch.Generator().manual_seed(seed), torch.Generator(), 4, **changes)


def contents(batches):
    return [batch.content for batch in batches]


def test_a_data_set_is_shuffled_and_its_noise_follows_from_the_seed():
    first, again, other = (contents(items().drawn_batches(draw(seed))) for seed in (1, 1, 2))
    assert [len(content) for content in first] == [4, 4, 2]
    assert sorted(torch.cat(first)[:, 0].tolist()) == list(range(10))
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert torch.cat(first)[:, 1:].unique().numel() == 30


def test_a_restored_epoch_and_worker_processes_see_the_same_examples():
    straight = contents(items().drawn_batches(draw()))
    rest = contents(items(workers=2).drawn_batches(draw(first=1)))
    assert all(torch.equal(*pair) for pair in zip(straight[1:], rest, strict=True))


def test_reading_a_data_set_leaves_all_random_numbers_as_they_were():
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    expected = torch.rand(()), np.random.rand(), random.random()
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    assert contents(items().drawn_batches(draw()))
    assert (torch.rand(()), np.random.rand(), random.random()) == expected


class Broken(Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return {}["nothing"]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_set_that_fails_is_one_error(workers):
    with pytest.raises(DataError, match=r"^the data set fails: KeyError: 'nothing'$"):
        contents(items(workers, Broken()).drawn_batches(draw()))


class Ragged(Noisy):
    def __getitem__(self, index):
        return torch.zeros(index)


def test_examples_that_form_no_batch_are_an_error_that_names_the_remedy():
    with pytest.raises(DataError, match=r"do not form a batch .*give a torch DataLoader with a collate_fn"):
        contents(items(data=Ragged()).drawn_batches(draw()))


def test_a_loader_decides_its_batches_and_a_restored_epoch_passes_over_those_that_are_done():
    examples = LoaderExamples(DataLoader(Noisy(), batch_size=3, shuffle=True), objective())
    assert (len(examples), examples.steps(64)) == (10, 4)
    epochs = []
    for first in (0, 2):
        torch.manual_seed(9)
        epochs.append([content[:, 0] for content in contents(examples.drawn_batches(draw(first=first)))])
        assert examples.drawn == 10
    assert [len(content) for content in epochs[0]] == [3, 3, 3, 1]
    assert all(torch.equal(*pair) for pair in zip(epochs[0][2:], epochs[1], strict=True))


class Liar(list):
    def __len__(self):
        return 5


@pytest.mark.parametrize("count", [3, 7])
def test_a_loader_whose_length_is_wrong_is_an_error(count):
    examples = LoaderExamples(Liar([torch.zeros(2)] * count), objective())
    with pytest.raises(DataError, match=f"the loader's length is 5, but it gave {count} batches"):
        contents(examples.drawn_batches(draw()))


def test_a_part_of_a_loader_is_refused():
    with pytest.raises(UsageError, match="give a torch data set in its place"):
        LoaderExamples([torch.zeros(2)], objective()).subset(torch.arange(1))


@pytest.mark.parametrize("form", ["items", "loader"])
def test_metrics_are_means_over_examples_whatever_the_sizes_of_batches(form, monkeypatch):
    monkeypatch.setattr("dcomp.learning.examples.items.MEASURED_BATCH", 3)
    numbers = torch.arange(5.0).reshape(5, 1)
    judged = objective(metrics=lambda model, batch: {"mean": batch.mean()}, judge="mean", lower_is_better=False)
    items = ItemExamples(numbers, judged, 0, torch.arange(5))
    examples = items if form == "items" else LoaderExamples([numbers[:4], numbers[4:]], judged)
    measured = evaluate(torch.nn.Identity(), examples)
    assert measured.metrics == {"mean": 2.0, "loss": 2.0}
    assert (measured.count, measured.judged, measured.rank) == (5, 2.0, (-2.0, 2.0))


def test_a_loss_among_the_metrics_is_not_computed_again():
    def never(model, batch):
        raise AssertionError

    judged = objective(loss=never, metrics=lambda model, batch: {"loss": 0.5})
    assert evaluate(torch.nn.Identity(), LoaderExamples([torch.zeros(2)], judged)).metrics == {"loss": 0.5}
