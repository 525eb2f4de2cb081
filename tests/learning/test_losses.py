import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dcomp.learning.distillation import Distillation
from dcomp.learning.examples import Batch
from dcomp.learning.losses import Loss
from dcomp.learning.objectives import Classification
from dcomp.settings import TrainSettings

IMAGES = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8) % 3
BATCH = Batch((IMAGES, LABELS), 8)


class Answering(nn.Module):
    """A network that always gives the same logits."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images):
        return self.logits


def loss_of(logits, chosen, teacher=None):
    model = Answering(logits)
    distillation = Distillation(model, teacher, chosen, of_classes=True) if teacher is not None else None
    return Loss(Classification(3), chosen, distillation)(model, BATCH).value


def settings(**changes):
    return TrainSettings(architecture="lenet5", data="digits", **changes)


@pytest.fixture
def teacher() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(2))


def test_without_a_teacher_the_loss_is_cross_entropy(logits):
    measured = loss_of(logits, settings(label_smoothing=0.1))
    assert measured == F.cross_entropy(logits, LABELS, label_smoothing=0.1)


def test_the_teachers_loss_vanishes_for_equal_answers(teacher):
    same = teacher.eval()(IMAGES)
    measured = loss_of(same, settings(distill="x", alpha=0.25), teacher)
    assert measured.item() == pytest.approx(0.75 * F.cross_entropy(same, LABELS).item(), rel=1e-5)


def test_the_teachers_loss_is_the_scaled_divergence_of_softened_answers(teacher, logits):
    measured = loss_of(logits, settings(distill="x", alpha=1, temperature=3), teacher)
    wanted, answer = (teacher.eval()(IMAGES) / 3).softmax(1), (logits / 3).softmax(1)
    assert measured.item() == pytest.approx(9 * (wanted * (wanted / answer).log()).sum(1).mean().item(), rel=1e-5)


def test_a_teacher_does_not_learn(teacher, logits):
    model = Answering(logits)
    loss = Loss(Classification(3), settings(), Distillation(model, teacher, settings(), of_classes=True))
    loss(model, BATCH).value.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert model.logits.grad.abs().sum() > 0


def test_the_accuracy_is_the_part_of_right_answers():
    logits = torch.eye(3)[[0, 1, 2, 0, 1, 2, 1, 2]]  # six of eight are the labels
    assert Loss(Classification(3), settings())(Answering(logits), BATCH).accuracy == 0.75
