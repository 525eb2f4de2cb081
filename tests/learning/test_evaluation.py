import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dcomp.errors import DataError
from dcomp.learning.datasets import MemorySplit, Preprocessing
from dcomp.learning.evaluation import evaluate
from dcomp.learning.examples import images
from dcomp.learning.examples.images import ImageExamples
from dcomp.learning.examples.loaders import LoaderExamples
from dcomp.learning.objectives import TaskObjective
from dcomp.learning.task import Task


class Scores(nn.Module):
    """Answers with the pixels of its images as logits."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def split_of(pixels: list[list[int]], labels: list[int]) -> ImageExamples:
    stored = torch.tensor(pixels, dtype=torch.uint8).reshape(len(pixels), 1, 4, -1)
    return ImageExamples(MemorySplit(stored, torch.tensor(labels), Preprocessing((0.0,), (1.0,))))


RANKED = [[9, 8, 7, 6, 5, 4, 3, 2]] * 8
LABELS = [0, 0, 0, 1, 4, 5, 6, 6]  # three times the first, twice among the first five, three times beyond


def test_errors_are_percentages_of_top_1_and_top_5():
    found = evaluate(Scores(), split_of(RANKED, LABELS))
    assert (found.judged, found.metrics["top5_error"], found.count) == (100 * 5 / 8, 100 * 3 / 8, 8)


def test_the_loss_is_the_mean_cross_entropy():
    logits = torch.tensor(RANKED) / 255
    expected = F.cross_entropy(logits, torch.tensor(LABELS)).item()
    assert evaluate(Scores(), split_of(RANKED, LABELS)).loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("batch", "values", "sizes"), [(3, 1 << 24, [3, 3, 2]), (100, 32, [2, 2, 2, 2]), (100, 0, [1] * 8)]
)
def test_batches_have_no_more_images_or_values_than_are_allowed(monkeypatch, batch, values, sizes):
    monkeypatch.setattr(images, "BATCH", batch)
    monkeypatch.setattr(images, "BATCH_VALUES", values)
    model, seen = Scores(), []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    found = evaluate(model, split_of(RANKED, LABELS))
    assert (found.judged, found.count, seen) == (62.5, 8, sizes)


def test_a_network_is_evaluated_without_dropout_and_without_gradients():
    model = nn.Sequential(Scores(), nn.Dropout(0.9))
    seen = []
    model.register_forward_hook(lambda module, _, logits: seen.append((module.training, logits.requires_grad)))
    model.train()
    assert evaluate(model, split_of(RANKED, LABELS)).judged == 62.5
    assert seen == [(False, False)]


def test_metrics_that_change_their_names_between_batches_are_an_error():
    names = iter(("iou", "dice"))
    task = Task(
        train=[torch.ones(2, 1)],
        test=[torch.ones(2, 1), torch.ones(2, 1)],
        loss=lambda model, batch: model(batch).mean(),
        metrics=lambda model, batch: {next(names): 1.0},
    )
    with pytest.raises(
        DataError, match="the metrics of the task are iou, loss for one batch and dice, loss for another"
    ):
        evaluate(nn.Linear(1, 1), LoaderExamples(task.test, TaskObjective(task)))
