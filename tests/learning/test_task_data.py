"""What a factory of data may return, and what is refused."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import dcomp
from dcomp.errors import ArchitectureError, DataError, UsageError
from dcomp.learning import training
from dcomp.learning.evaluation import evaluate
from dcomp.learning.task_data import TaskData
from dcomp.learning.trial import Trial
from dcomp.progress.observer import Observer
from dcomp.settings import EvalSettings, SensitivitySettings, TrainSettings


def points(count, seed=0):
    """Points of the plane, and in which half they lie."""
    chance = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 2, generator=chance)
    return TensorDataset(inputs, (inputs[:, 0] > 0).long())


def settings(**changes):
    return TrainSettings(architecture="lenet5", data="mine:data", **{"epochs": 3, "lr": 0.1, **changes})


def loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def right(model, batch):
    return {"right": (model(batch[0]).argmax(1) == batch[1]).float().mean()}


def task(**changes):
    given = {"train": points(100), "test": points(30, 1), "loss": loss, "metrics": right, "judge": "right"}
    return dcomp.Task(**{**given, "lower_is_better": False, **changes})


def load(returned, **changes):
    return TaskData.of(returned, "mine:data", settings(**changes))


def network():
    torch.manual_seed(0)
    return nn.Linear(2, 2)


def test_a_pair_of_data_sets_is_classification():
    data = load((points(200), points(50, 1)))
    train, validation = data.split_validation(0.25, seed=0)
    assert (len(train), len(validation), len(data.test)) == (150, 50, 50)
    model = network()
    training.fit(model, train, validation, settings(label_smoothing=0.1, epochs=9), Observer())
    measured = evaluate(model, data.test)
    assert set(measured.metrics) == {"top1_error", "top5_error", "loss"}
    assert measured.judged <= 10


def test_a_triple_has_validation_examples_of_its_own():
    data = load((points(20), points(10, 1), points(5, 2)))
    train, validation = data.split_validation(0.25, seed=0)
    assert (len(train), len(validation), len(data.test)) == (20, 10, 5)
    with pytest.raises(UsageError, match=r"--val-split.* would do nothing, as mine:data has validation examples"):
        load((points(20), points(10, 1), points(5, 2)), val_split=0.5)


def test_square_images_of_a_pair_decide_the_arguments_of_networks():
    images = TensorDataset(torch.zeros(4, 3, 8, 8), torch.zeros(4).long())
    assert load((images, images)).train.form == {"grayscale": False, "size": 8}


@pytest.mark.parametrize("form", ["data sets", "loaders", "lists"])
def test_the_best_epoch_has_the_highest_value_of_a_judge_whose_higher_values_are_better(form):
    parts = {"train": points(200), "validation": points(100, 1)}
    if form != "data sets":
        parts = {name: DataLoader(part, batch_size=50, shuffle=True) for name, part in parts.items()}
    if form == "lists":
        parts = {name: list(loader) for name, loader in parts.items()}
    told = []

    class Watching(Observer):
        def chose_epoch(self, choice):
            told.append(choice)

    data = load(task(**parts))
    train, validation = data.split_validation(0.1, seed=0)
    model = network()
    run = settings(lr=0.5, epochs=5)
    history = training.fit(model, train, validation, run, Watching())
    values = [record.val_metrics["right"] for record in history]
    [choice] = told
    assert choice.val_judged == max(values) == pytest.approx(evaluate(model, validation).judged)
    assert choice.reason.startswith(f"epoch {choice.epoch} of 5 kept: highest validation right 0.")
    assert choice.as_dict()["val_right"] == choice.val_judged
    assert set(history[0].rounded()) == {"epoch", "train_loss", "val_loss", "val_right"}


def test_of_a_loader_no_part_is_set_aside_so_the_last_epoch_is_kept():
    data = load(task(train=DataLoader(points(20), batch_size=5)))
    train, validation = data.split_validation(0.5, seed=0)
    assert (len(train), len(validation)) == (20, 0)
    history = training.fit(network(), train, validation, settings(epochs=2), Observer())
    assert [record.val_metrics for record in history] == [{"right": None, "loss": None}] * 2


class Endless(IterableDataset):
    def __iter__(self):
        return iter(())


WRONG = {
    "nothing": (None, "returned None"),
    "a list": ([points(3), points(3)], "returned a list"),
    "four data sets": ((points(3),) * 4, "returned a tuple of 4"),
    "a tuple of texts": (("a", "b"), "a tuple with a str, which is no torch data set"),
    "single tensors": ((TensorDataset(torch.zeros(3, 2)),) * 2, r"an example of mine:data is a tuple of 1, not a pair"),
    "labels that are floats": (
        (TensorDataset(torch.zeros(3, 2), torch.rand(3)),) * 2,
        "not an integer; for other tasks",
    ),
    "labels of pixels": ((TensorDataset(torch.zeros(3, 2), torch.zeros(3, 4).long()),) * 2, "a tensor of shape"),
    "no examples": (task(train=points(0)), "train of mine:data has no examples"),
    "no training data": (task(train=None), "train of mine:data is None"),
    "no test data": (task(test=None), "test of mine:data is None"),
    "training data that are a number": (task(train=3), "train of mine:data is a int, not a torch data set"),
    "a generator": (task(train=(batch for batch in [])), "is a generator, not a torch data set or a loader"),
    "a stream without length": (task(train=DataLoader(Endless())), "has no length"),
    "no batches": (task(test=[]), "test of mine:data has no batches"),
    "a loss that is no function": (task(loss=3), "must be functions"),
    "metrics that are no function": (task(metrics={}), "must be functions"),
    "a judge that is no name": (task(judge=None), "must be the name of a metric"),
    "a loss of which higher is better": (task(judge="loss"), "and a lower loss is better: give judge, the name of"),
    "a direction that is no bool": (task(lower_is_better="yes"), "lower_is_better a bool"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_return_is_one_error(case):
    returned, message = WRONG[case]
    with pytest.raises(DataError, match=message):
        load(returned)


WRONG_FUNCTIONS = {
    "a loss for each example": ({"loss": lambda model, batch: model(batch[0])[:, 0]}, r"is a tensor of shape \(2,\)"),
    "no loss": ({"loss": lambda model, batch: None}, "the loss of the task is None, not a tensor with one number"),
    "a number as loss": ({"loss": lambda model, batch: 1.5}, "the loss of the task is a float"),
    "a loss without gradient": ({"loss": lambda model, batch: torch.zeros(())}, "has no gradient"),
    "a loss that fails": (
        {"loss": lambda model, batch: batch["x"]},
        "the loss of the task cannot be computed: TypeError",
    ),
    "metrics that fail": ({"metrics": lambda model, batch: 1 / 0}, "metrics of the task cannot be computed: ZeroDiv"),
    "metrics that are a number": ({"metrics": lambda model, batch: 0.5}, "are a float, not numbers by name"),
    "metrics without the judge": (
        {"metrics": lambda model, batch: {"a": 1}},
        "which its metrics lack: there are a, loss",
    ),
    "a metric of several numbers": ({"metrics": lambda model, batch: {"right": torch.zeros(2)}}, "not one number"),
    "a metric that is a text": ({"metrics": lambda model, batch: {"right": "1"}}, "is a str, not one number"),
    "a reserved name": ({"metrics": lambda model, batch: {"count": 1}}, "has the name 'count'"),
    "a name that no terminal shows": ({"metrics": lambda model, batch: {"a\x1b[31m": 1}}, "has the name 'a.x1b"),
    "a name with an equals sign": ({"metrics": lambda model, batch: {"a=b": 1}}, "has the name 'a=b'"),
    "no metrics for the judge": ({"metrics": None}, "the judge of the task is 'right', which its metrics lack"),
}


@pytest.mark.parametrize("case", WRONG_FUNCTIONS)
def test_a_loss_or_metrics_of_the_wrong_form_are_one_error_before_training(case):
    changes, message = WRONG_FUNCTIONS[case]
    with pytest.raises(DataError, match=message):
        Trial(network(), load(task(**changes)).train).check("net")


def test_a_network_that_does_not_take_the_inputs_of_a_pair_is_an_error():
    with pytest.raises(ArchitectureError, match=r"net does not take inputs of shape \(2, 2\)"):
        Trial(nn.Linear(3, 2), load((points(4), points(4))).train).check("net")
    with pytest.raises(ArchitectureError, match=r"net gives \(2, 1, 2\) for inputs of shape \(2, 2\), not logits"):
        Trial(nn.Unflatten(1, (1, 2)), load((points(4), points(4))).train).check("net")


def test_a_label_beyond_the_networks_classes_is_one_error():
    data = load((TensorDataset(torch.zeros(9, 2), torch.arange(9)),) * 2)
    with pytest.raises(DataError, match="the labels and the network's classes do not fit"):
        evaluate(network(), data.test)


@pytest.mark.parametrize("option", [{"augment": "shift"}, {"resize": 9}, {"label_smoothing": 0.1}])
def test_options_that_a_task_cannot_follow_are_refused(option):
    [name] = option
    with pytest.raises(UsageError, match=name):
        load(task(), **option)


def test_other_settings_have_no_options_to_refuse():
    for chosen in (EvalSettings(data="mine:data"), SensitivitySettings(data="mine:data")):
        assert len(TaskData.of(task(), "mine:data", chosen).test) == 30


def test_a_task_is_exported_without_torch():
    code = "import sys, dcomp; dcomp.Task; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_input_of_a_network_is_found_where_its_loss_calls_it():
    trial = Trial(network(), load(task()).train)
    assert torch.equal(trial.input_tensor(), points(100).tensors[0][:2])
    other = Trial(network(), load(task(loss=lambda model, batch: (batch[0] @ model.weight).mean())).train)
    with pytest.raises(UsageError, match="does not call the model itself"):
        other.input_tensor()
    keywords = Trial(network(), load(task(loss=lambda model, batch: model(input=batch[0]).mean())).train)
    with pytest.raises(UsageError, match="dead units can be found in networks that take one tensor"):
        keywords.input_tensor()
