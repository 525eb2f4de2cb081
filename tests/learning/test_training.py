import math
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from dcomp.errors import DcompError
from dcomp.learning import training
from dcomp.learning.datasets import MemorySplit, Preprocessing
from dcomp.learning.distillation import Distillation
from dcomp.learning.evaluation import evaluate
from dcomp.learning.examples.images import ImageExamples
from dcomp.learning.fit_plan import FitPlan
from dcomp.learning.held_weights import HeldWeights
from dcomp.progress.observer import Observer
from dcomp.settings import TrainSettings

PREPROCESSING = Preprocessing((0.5,), (0.3,))


def examples(images: torch.Tensor, labels: torch.Tensor) -> ImageExamples:
    return ImageExamples(MemorySplit(images, labels, PREPROCESSING, 4))


def blobs(count: int, seed: int) -> ImageExamples:
    """Images whose label is the brightest of four pixels."""
    images = torch.randint(0, 256, (count, 1, 2, 2), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return examples(images, images.flatten(1).argmax(1))


def settings(**changes):
    return TrainSettings(architecture="lenet5", data="digits", **{"epochs": 6, "lr": 0.1, "weight_decay": 0, **changes})


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 4))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
def test_a_network_learns_with_every_optimizer_and_schedule(optimizer, schedule):
    model = linear()
    history = training.fit(
        model, blobs(2000, 0), blobs(200, 1), settings(optimizer=optimizer, lr_schedule=schedule), Observer()
    )
    assert [record.epoch for record in history] == [1, 2, 3, 4, 5, 6]
    assert evaluate(model, blobs(500, 2)).judged < 15


def test_the_best_epoch_by_validation_error_is_left_in_the_model():
    model = linear()
    validation = blobs(300, 1)
    history = training.fit(model, blobs(1000, 0), validation, settings(lr=2.0, lr_schedule="constant"), Observer())
    errors = [record.val_judged for record in history]
    assert evaluate(model, validation).judged == min(errors)
    assert errors[-1] != min(errors)


def test_epochs_that_are_not_eligible_are_not_candidates():
    model = linear()
    validation = blobs(300, 1)
    run = settings(lr=2.0, lr_schedule="constant")
    history = training.fit(model, blobs(1000, 0), validation, run, Observer(), FitPlan(eligible_after=5))
    assert evaluate(model, validation).judged == history[-1].val_judged


def test_the_same_seed_gives_the_same_weights():
    models = [linear(), linear()]
    for model in models:
        training.fit(model, blobs(500, 0), blobs(50, 1), settings(augment="shift"), Observer())
    assert torch.equal(models[0][1].weight, models[1][1].weight)


def test_a_loss_that_is_no_number_is_an_error():
    with pytest.raises(DcompError, match="smaller --lr may help"):
        training.fit(linear(), blobs(500, 0), blobs(50, 1), settings(lr=1e38, momentum=0), Observer())


def test_an_observer_sees_every_epoch_and_the_last_step():
    told: dict[str, list] = {"started": [], "stepped": [], "epochs": []}

    class Watching(Observer):
        def started(self, steps, history=(), epochs=0):
            told["started"].append(steps)

        def finished_steps(self, count, loss, accuracy):
            told["stepped"].append(count)
            assert math.isfinite(loss)
            assert 0 <= accuracy <= 1

        def finished_epoch(self, record):
            told["epochs"].append(record.epoch)

    training.fit(linear(), blobs(100, 0), blobs(10, 1), settings(epochs=2, batch_size=10), Watching())
    assert told == {"started": [20], "stepped": [20], "epochs": [1, 2]}


def always_the_first() -> nn.Module:
    """A network that says class 0 of every image."""
    model = linear()
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([4.0, 0, 0, 0]))
    return model


def test_loss_and_accuracy_are_means_since_the_last_report():
    told = []

    class Watching(Observer):
        def finished_steps(self, count, loss, accuracy):
            told.append((count, loss, accuracy))

    split = blobs(200, 0)
    split.split.labels.copy_((torch.arange(200) % 4 == 3).long())  # three of four are right
    training.fit(
        always_the_first(), split, blobs(10, 1), settings(epochs=4, batch_size=10, lr=1e-9, momentum=0), Watching()
    )
    wrong, right = math.log(math.exp(4) + 3), math.log(math.exp(4) + 3) - 4
    assert [done for done, _, _ in told] == [20, 40, 60, 80]
    for _, loss, accuracy in told:
        assert accuracy == pytest.approx(0.75)
        assert loss == pytest.approx(0.25 * wrong + 0.75 * right, rel=1e-4)


def kept_of(split, model=None, **changes):
    """What is told of the epoch kept, with the history."""
    told = []

    class Watching(Observer):
        def chose_epoch(self, kept):
            told.append(kept)

    plan = FitPlan(**{name: changes.pop(name) for name in ("eligible_after", "start_counts") if name in changes})
    history = training.fit(model or linear(), blobs(1000, 0), split, settings(**changes), Watching(), plan)
    [kept] = told
    return kept, history


def test_the_chosen_epoch_has_the_lowest_validation_error():
    kept, history = kept_of(blobs(300, 1), lr=2.0, lr_schedule="constant")
    best = min(history, key=lambda record: (record.val_judged, record.val_loss))
    assert (kept.epoch, kept.epochs, kept.first) == (best.epoch, 6, 1)
    assert (kept.val_judged, kept.val_examples) == (best.val_judged, 300)
    assert kept.tied == ([record.val_judged for record in history].count(best.val_judged) > 1)
    later, _ = kept_of(blobs(300, 1), lr=2.0, lr_schedule="constant", eligible_after=4.5)
    assert later.first == 5
    assert later.epoch in (5, 6)


def test_the_choice_may_be_the_last_epoch_or_the_start():
    nothing = blobs(10, 1).subset(torch.arange(0))
    last, _ = kept_of(nothing)
    assert (last.epoch, last.val_judged, last.val_examples) == (6, None, 0)
    model, validation = linear(), blobs(300, 1)
    training.fit(model, blobs(2000, 0), validation, settings(), Observer())
    before = evaluate(model, validation).judged
    none, history = kept_of(validation, model, lr=5.0, lr_schedule="constant", epochs=2, start_counts=True)
    assert min(record.val_judged for record in history) > before
    assert (none.epoch, none.val_judged) == (0, before)


class Constant(nn.Module):
    """A network that always answers class 0, and learns nothing."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        answers = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(len(images), 4)
        return answers + 0 * self.unused


@pytest.mark.parametrize("of_class_0", [0, 3, 9, 12])
def test_accuracy_is_the_part_of_right_answers_since_the_last_report(of_class_0):
    shown = []

    class Watching(Observer):
        def finished_steps(self, count, loss, accuracy):
            shown.append((count, accuracy))

    labels = torch.tensor([0] * of_class_0 + [1] * (12 - of_class_0))
    data = examples(torch.zeros(12, 1, 2, 2, dtype=torch.uint8), labels)
    training.fit(Constant(), data, data, settings(epochs=21, batch_size=12), Watching())
    assert shown == [(20, pytest.approx(of_class_0 / 12)), (21, pytest.approx(of_class_0 / 12))]


def test_each_event_runs_once_at_its_time():
    model = linear()
    held = HeldWeights(model)
    happened = []

    def move():
        held.mask("1.weight", np.eye(4, dtype=bool))
        happened.append("move")

    events = [(0.0, lambda: happened.append("start")), (1.25, move), (1.3, lambda: happened.append("late"))]
    training.fit(
        model,
        blobs(100, 0),
        blobs(10, 1),
        settings(epochs=2, batch_size=25),
        Observer(),
        FitPlan(events=events, eligible_after=1.3),
        held=held,
    )
    assert happened == ["start", "move", "late"]
    assert np.array_equal(model[1].weight.detach().numpy() != 0, np.eye(4, dtype=bool))


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_learns_the_same():
    plain, compiled = linear(), linear()
    for model, wanted in ((plain, False), (compiled, True)):
        run = settings(epochs=1, compile=wanted)
        training.fit(model, blobs(128, 0), blobs(10, 1), run, Observer())
    assert torch.allclose(plain[1].weight, compiled[1].weight, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{"precision": "bf16"}, {"clip_norm": 0.5}, {"label_smoothing": 0.1}, {"lr_schedule": "one-cycle", "warmup": 1}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_network_learns_with_every_refinement(changes):
    model = linear()
    training.fit(model, blobs(2000, 0), blobs(200, 1), settings(**changes), Observer())
    assert evaluate(model, blobs(500, 2)).judged < 15


def test_a_record_has_error_rate_and_sparsity_of_an_epoch():
    model = linear()
    held = HeldWeights(model)
    held.mask("1.weight", np.eye(4, dtype=bool))
    run = settings(epochs=1, lr_schedule="constant")
    record = training.fit(model, blobs(100, 0), blobs(50, 1), run, Observer(), held=held)[0]
    assert record.val_metrics["top5_error"] == 0
    assert (record.lr, record.sparsity, record.layers) == (0.1, 0.75, {"1.weight": 0.75})
    assert record.seconds > 0
    assert set(record.rounded()) == {"epoch", "train_loss", "val_loss", "val_error"}


def test_without_validation_the_last_epoch_is_kept():
    model = linear()
    nothing = blobs(10, 1).subset(torch.arange(0))
    history = training.fit(model, blobs(100, 0), nothing, settings(epochs=2), Observer())
    assert [record.val_metrics for record in history] == [dict.fromkeys(("top1_error", "top5_error", "loss"))] * 2
    assert set(history[0].rounded()) == {"epoch", "train_loss"}
    again = linear()
    training.fit(again, blobs(100, 0), nothing, settings(epochs=2), Observer(), FitPlan(eligible_after=1.5))
    assert torch.equal(again[1].weight, model[1].weight)


def test_evaluation_counts_what_is_wrong():
    split = blobs(100, 3).split
    model = nn.Flatten()
    result = evaluate(model, examples(split.images, split.labels))
    assert (result.judged, result.metrics["top5_error"], result.count) == (0, 0, 100)
    wrong = evaluate(model, examples(split.images, (split.labels + 1) % 4))
    assert (wrong.judged, wrong.metrics["top5_error"]) == (100, 0)


def test_a_network_trains_on_after_an_event_that_had_it_evaluate():
    model = linear()
    modes = []
    model.register_forward_pre_hook(lambda module, _: modes.append(module.training) or None)
    training.fit(model, blobs(256, 0), blobs(9, 1), settings(epochs=1), Observer(), FitPlan(events=[(0.5, model.eval)]))
    assert modes == [True] * 4 + [False]


def test_the_moving_average_is_validated_and_kept():
    losses = {}
    for decay in (None, 1e-9, 0.95):
        model = linear()
        history = training.fit(model, blobs(1000, 0), blobs(300, 1), settings(epochs=3, ema=decay), Observer())
        losses[decay] = [record.val_loss for record in history]
        assert evaluate(model, blobs(300, 1)).loss in losses[decay]
    assert losses[1e-9] == pytest.approx(losses[None], rel=1e-4)
    assert losses[0.95][0] > 1.02 * losses[None][0]  # it lags behind


def test_a_teacher_replaces_labels():
    teacher, pupil = linear(), linear()
    training.fit(teacher, blobs(2000, 0), blobs(200, 1), settings(), Observer())
    unlabeled = blobs(2000, 3)
    unlabeled.split.labels.zero_()
    taught = settings(distill="x", alpha=1.0)
    distillation = Distillation(pupil, teacher, taught, of_classes=True)
    training.fit(pupil, unlabeled, blobs(200, 1), taught, Observer(), distillation=distillation)
    assert evaluate(pupil, blobs(500, 2)).judged < 20


class Told(Observer):
    """Remembers what training tells."""

    def __init__(self):
        self.steps, self.totals, self.weights_at = [], [], []

    def started(self, steps, *_, **__):
        self.totals.append(steps)

    def finished_steps(self, count, loss, accuracy):
        self.steps.append((count, loss, accuracy))

    def weights(self, epoch, tensors):
        self.weights_at.append((epoch, {name: array.copy() for name, array in tensors.items()}))


def told_of(model, count=100, **changes):
    told = Told()
    training.fit(model, blobs(count, 0), blobs(50, 1), settings(**{"epochs": 1, "batch_size": 10, **changes}), told)
    return told


def test_the_accuracy_of_batches_is_their_part_of_right_answers():
    images = blobs(100, 0).split
    for wrong in (0, 25, 100):
        labels = torch.where(torch.arange(100) < wrong, (images.labels + 1) % 4, images.labels)
        told = Told()
        training.fit(
            brightest(),
            examples(images.images, labels),
            blobs(10, 1),
            settings(epochs=1, lr=1e-9, batch_size=20),
            told,
        )
        ((_, _, accuracy),) = told.steps
        assert accuracy == pytest.approx(1 - wrong / 100)


def brightest() -> nn.Module:
    """A network that is right about all blobs."""
    model = linear()
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(4))
        model[1].bias.zero_()
    return model


def test_reported_losses_are_means_over_examples():
    images = blobs(70, 0)
    expected = evaluate(brightest(), images).loss
    told = Told()
    history = training.fit(brightest(), images, blobs(10, 1), settings(epochs=1, lr=1e-9, batch_size=20), told)
    assert history[0].train_loss == pytest.approx(expected, rel=1e-5)
    batches = [loss for _, loss, _ in told.steps]
    assert batches == [pytest.approx(expected, rel=0.2)]


def test_steps_are_reported_every_twenty_and_at_the_end():
    told = told_of(linear(), count=450)
    assert told.totals == [45]
    assert [done for done, _, _ in told.steps] == [20, 40, 45]
    assert max(loss for _, loss, _ in told.steps[1:]) < 0.7 * told.steps[0][1]  # the first ones are the worst


def test_weights_are_reported_before_the_first_step_and_at_the_end():
    model = linear()
    before = model[1].weight.detach().numpy().copy()
    told = told_of(model, epochs=3)
    assert [epoch for epoch, _ in told.weights_at] == [0, 3]
    assert np.array_equal(told.weights_at[0][1]["1.weight"], before)
    assert np.array_equal(told.weights_at[1][1]["1.weight"], model[1].weight.detach().numpy())


@pytest.mark.parametrize(("lr", "kept"), [(3.0, True), (0.1, False)])
def test_the_start_is_kept_if_it_is_a_candidate_and_training_makes_it_worse(lr, kept):
    model = brightest() if kept else linear()
    before = model[1].weight.detach().clone()
    noise = examples(blobs(200, 0).split.images, torch.randint(0, 4, (200,))) if kept else blobs(200, 0)
    training.fit(model, noise, blobs(100, 1), settings(epochs=1, lr=lr), Observer(), FitPlan(start_counts=True))
    assert torch.equal(model[1].weight, before) == kept
    other = brightest() if kept else linear()
    training.fit(other, noise, blobs(100, 1), settings(epochs=1, lr=lr), Observer())
    assert not torch.equal(other[1].weight, before)


def test_an_epoch_that_ends_at_the_eligible_time_is_no_candidate():
    images, validation = blobs(500, 0), blobs(300, 1)
    for eligible_after, candidates in ((1.0, [2, 3]), (0.99, [1, 2, 3]), (2.0, [3])):
        model = brightest()
        run = settings(epochs=3, lr=2.0, lr_schedule="constant")
        history = training.fit(model, images, validation, run, Observer(), FitPlan(eligible_after=eligible_after))
        best = min((record.val_judged, record.val_loss) for record in history if record.epoch in candidates)
        assert evaluate(model, validation).loss == pytest.approx(best[1])


def test_gradients_are_clipped_to_their_norm():
    for norm, moved in ((1e-3, 1e-3), (None, 1e-2)):
        model = linear()
        before = model[1].weight.detach().clone()
        run = settings(epochs=1, batch_size=100, lr=1.0, momentum=0, clip_norm=norm, lr_schedule="constant")
        training.fit(model, blobs(100, 0), blobs(10, 1).subset(torch.arange(0)), run, Observer())
        distance = float((model[1].weight.detach() - before).norm())
        assert distance <= moved * 1.01 if norm else distance > moved
