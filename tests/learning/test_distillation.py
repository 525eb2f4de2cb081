"""How far a network's outputs are from its teacher's, whatever they are."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dcomp.errors import ArchitectureError, UsageError
from dcomp.learning.calls import Call
from dcomp.learning.distillation import Distillation, divergence
from dcomp.learning.network_outputs import class_dimension
from dcomp.settings import TrainSettings

INPUTS = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(seed, form=lambda tensor: tensor):
    """A network of two layers whose output has some form."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.form = nn.Linear(4, 5), nn.Linear(5, 3), form

        def forward(self, inputs):
            return self.form(self.second(self.first(inputs).relu()))

    torch.manual_seed(seed)
    return Net()


def terms(student, teacher, *, of_classes=False, **settings):
    settings = TrainSettings(architecture="lenet5", data="digits", distill="x", **settings)
    distillation = Distillation(student, teacher, settings, of_classes=of_classes)
    with distillation.watched() as hidden:
        output = student(INPUTS)
    return distillation.terms(Call((INPUTS,), {}, output), hidden)


def total(*arguments, **settings):
    return sum(term.factor * term.value for term in terms(*arguments, **settings)).item()


def test_classes_differ_by_the_divergence_of_softened_answers():
    student, teacher = network(0), network(1)
    wanted, answer = (teacher(INPUTS) / 3).softmax(1), (student(INPUTS) / 3).softmax(1)
    expected = 9 * (wanted * (wanted / answer).log()).sum(1).mean().item()
    assert total(student, teacher, of_classes=True, temperature=3) == pytest.approx(expected, rel=1e-4)


def test_other_outputs_differ_by_their_mean_square():
    student, teacher = network(0), network(1)
    assert total(student, teacher) == pytest.approx(F.mse_loss(student(INPUTS), teacher(INPUTS)).item())


def test_a_person_chooses_the_distance():
    student, teacher = network(0), network(1)
    angle = F.cosine_similarity(student(INPUTS), teacher(INPUTS)).mean().item()
    assert total(student, teacher, distill_loss="cosine") == pytest.approx(1 - angle, rel=1e-5)
    assert total(student, teacher, distill_loss="mse", of_classes=True) == total(student, teacher)
    assert total(student, teacher, distill_loss="kl") == total(student, teacher, of_classes=True)


@pytest.mark.parametrize("kind", ["kl", "mse", "cosine"])
def test_a_network_does_not_differ_from_itself(kind):
    assert total(network(0), network(0), distill_loss=kind, distill_at="first") == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 4, 5), (2, 3, 2, 2, 2), (2, 5, 3)])
def test_the_divergence_is_a_mean_over_examples_and_positions(shape):
    tensor, answer = random(*shape), random(*shape, seed=1)
    dimension = class_dimension(tensor)
    assert tensor.shape[dimension] == 3
    wanted, given = answer.softmax(dimension), tensor.softmax(dimension)
    expected = (wanted * (wanted / given).log()).sum(dimension).mean()
    assert torch.allclose(divergence(tensor, answer), expected, rtol=1e-5)


@dataclass
class Output:
    """As those of Transformers, but no mapping."""

    loss: Any
    logits: Any
    hidden_states: Any


FORMS = {
    "a tensor": lambda tensor: tensor,
    "a tuple": lambda tensor: (tensor, tensor.argmax(1)),
    "a mapping": lambda tensor: OrderedDict(loss=tensor.mean(), logits=tensor),
    "a data class": lambda tensor: Output(tensor.mean(), tensor, None),
    "a list in a mapping": lambda tensor: {"maps": [tensor, tensor]},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("kind", ["kl", "mse", "cosine"])
def test_outputs_of_any_form_are_compared_by_their_tensors_of_floats(form, kind):
    plain = total(network(0), network(1), distill_loss=kind)
    assert total(network(0, form), network(1, form), distill_loss=kind) == pytest.approx(plain, rel=1e-6)


def test_what_only_one_network_gives_is_left_out():
    with_more = network(1, lambda tensor: {"logits": tensor, "more": tensor * 2})
    alone = network(0, lambda tensor: {"logits": tensor})
    assert total(alone, with_more) == pytest.approx(total(network(0), network(1)))


def test_outputs_of_modules_are_compared_too():
    student, teacher = network(0), network(1)
    output, hidden = terms(student, teacher, of_classes=True, distill_at="first")
    assert output.value.item() == terms(student, teacher, of_classes=True)[0].value.item()
    assert hidden.value.item() == pytest.approx(F.mse_loss(student.first(INPUTS), teacher.first(INPUTS)).item())
    assert hidden.factor == 1
    both = terms(student, teacher, distill_at=["fir.*", "second"])[1].value.item()
    second = F.mse_loss(student(INPUTS), teacher(INPUTS)).item()
    assert both == pytest.approx((hidden.value.item() + second) / 2)


def test_a_module_that_is_called_twice_counts_with_both_outputs():
    class Twice(nn.Module):
        def __init__(self, seed):
            super().__init__()
            torch.manual_seed(seed)
            self.layer = nn.Linear(4, 4)

        def forward(self, inputs):
            return self.layer(self.layer(inputs))

    student, teacher = Twice(0), Twice(1)
    once, twice = ([net.layer(INPUTS), net(INPUTS)] for net in (student, teacher))
    expected = sum(F.mse_loss(a, b).item() for a, b in zip(once, twice, strict=True)) / 2
    assert terms(student, teacher, distill_at="layer")[1].value.item() == pytest.approx(expected)


def test_gradients_reach_the_network_and_not_the_teacher():
    student, teacher = network(0), network(1)
    sum(term.value for term in terms(student, teacher, distill_at="first")).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in student.parameters())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())


def test_watching_ends_with_its_block():
    student = network(0)
    terms(student, network(1), distill_at="first")
    assert not student.first._forward_hooks


@pytest.mark.parametrize(
    ("student", "teacher", "settings", "error", "message"),
    [
        (network(0), nn.Linear(4, 2), {}, ArchitectureError, r"shape \(8, 3\), and the teacher \(8, 2\)"),
        (network(0), nn.Linear(4, 2), {"distill_loss": "kl"}, ArchitectureError, "the teacher has 2 classes, and the"),
        (
            network(0),
            network(0, lambda tensor: {"a": tensor}),
            {},
            ArchitectureError,
            "no tensors of floats at the same",
        ),
        (
            nn.Linear(4, 1),
            nn.Linear(4, 1),
            {"distill_loss": "kl"},
            ArchitectureError,
            r"one class has no probabilities to compare \(kl\): give distill_loss mse",
        ),
        (network(0, lambda tensor: "x"), network(1), {"distill_loss": "kl"}, ArchitectureError, "gives no scores of"),
        (
            network(0),
            network(1),
            {"distill_at": "third"},
            UsageError,
            "'third' matches no module; there are first, second",
        ),
        (network(0), nn.Linear(4, 3), {"distill_at": "first"}, ArchitectureError, "the teacher has no module 'first'"),
        (network(0), network(1), {"temperature": 2}, UsageError, "does nothing for mse: give distill_loss kl"),
    ],
    ids=range(8),
)
def test_what_cannot_be_compared_is_one_clear_error(student, teacher, settings, error, message):
    with pytest.raises(error, match=message):
        terms(student, teacher, **settings)
