"""One training loop for every stage. It does nothing about compression: held weights hang on the optimizer.

Each epoch seeds its random numbers anew, by the seed and its number: a restored step continues with the same numbers.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import torch
from torch import nn

from dcomp.errors import DcompError
from dcomp.learning import distributed, early_stopping, weights
from dcomp.learning.devices import check_compiler
from dcomp.learning.distillation import Distillation
from dcomp.learning.evaluation import evaluate
from dcomp.learning.examples import Batch, Draw, Examples
from dcomp.learning.fit_plan import ALL_EPOCHS, FitPlan
from dcomp.learning.held_weights import HeldWeights
from dcomp.learning.losses import BatchLoss, Loss
from dcomp.learning.seeds import mixed
from dcomp.learning.state import Keeper
from dcomp.learning.training_state import TrainingState
from dcomp.progress.measurement import Measurement
from dcomp.progress.observer import ChosenEpoch, EpochRecord, Observer
from dcomp.progress.resumption import Stop
from dcomp.settings import LearningSettings
from dcomp.system.ranks import IS_FIRST, RANK, WORLD_SIZE

NOTIFY_EVERY = 20  # steps; asking a device for its loss at each step would make it wait
NOTIFY_AFTER = 2.0  # seconds, where that many steps take longer


def fit(
    model: nn.Module,
    train: Examples,
    validation: Examples,
    settings: LearningSettings,
    observer: Observer,
    plan: FitPlan = ALL_EPOCHS,
    *,
    held: HeldWeights | None = None,
    distillation: Distillation | None = None,
    keeper: Keeper | None = None,
    on_restore: Callable[[], None] = lambda: None,
) -> list[EpochRecord]:
    """Train, and leave the model at its best epoch by the judge of the task on validation examples, then loss.

    Without validation examples (`val_split` 0) the last epoch is kept.

    Args:
        model: on the device of the examples.
        train: examples to learn from.
        validation: examples to choose the best epoch by.
        settings: batch size, optimizer and its rates, augmentation, seed.
        observer: watches.
        plan: of this training.
        held: weights of the model that stay zero or shared; None: all weights train.
        distillation: the distance from a teacher, whose answers the model learns as well.
        keeper: saves the state, and may have one to restore.
        on_restore: called after a state, which has other masks, is restored.

    Raises:
        DcompError: the loss is not finite.
        StoppedError: Ctrl-C or SIGTERM came, and the state is saved.
    """
    training = _Training(
        model,
        held or HeldWeights(model),
        train,
        validation,
        settings,
        observer,
        plan,
        Loss(train.objective, settings, distillation),
        keeper,
    )
    if training.restore():
        on_restore()
    elif plan.start_counts:
        training.count_start()
    return training.run()


class _Training:
    """The epochs of one training."""

    def __init__(
        self,
        model: nn.Module,
        held: HeldWeights,
        train: Examples,
        validation: Examples,
        settings: LearningSettings,
        observer: Observer,
        plan: FitPlan,
        loss: Loss,
        keeper: Keeper | None,
    ) -> None:
        if settings.compile:
            check_compiler(next(model.parameters()).device)
        self._model = model
        self._train, self._validation = train, validation
        self._settings, self._observer, self._plan = settings, observer, plan
        self._loss, self._keeper = loss, keeper
        self._device = next(model.parameters()).device
        self._epochs = settings.epochs if plan.epochs is None else plan.epochs
        self._steps_per_epoch = train.steps(settings.batch_size)
        self._total_steps = self._steps_per_epoch * self._epochs
        self._state = TrainingState(model, held, settings, self._epochs, self._steps_per_epoch)
        self._trained_model = model

    def restore(self) -> bool:
        """Restore the state that the keeper has; return whether it has one.

        Raises:
            CheckpointError: the state does not fit this network and data.
        """
        return self._keeper is not None and self._state.restore(self._keeper, len(self._train))

    def count_start(self) -> None:
        """Count the network before the first epoch as the best so far."""
        if len(self._validation):
            self._state.keep_as_best(self._evaluate().rank)

    def run(self) -> list[EpochRecord]:
        """Train the epochs that are left, load the best one into the model, and return the records of all."""
        self._trained_model = self._wrapped()
        self._observer.started(self._total_steps, self._state.history, self._epochs)
        if self._state.step == 0:
            self._observer.weights(0, weights.tensors_of(self._model))
        with Stop(listening=self._keeper is not None) as stop:
            while len(self._state.history) < self._epochs and not self._is_over():
                self._epoch(stop)
                if self._keeper is not None and distributed.any_of(IS_FIRST and self._keeper.due, self._device):
                    self._state.save(self._keeper, len(self._train))
        if self._state.best is not None:
            self._model.load_state_dict(self._state.best[1])
        self._observer.chose_epoch(self._choice())
        self._observer.weights(len(self._state.history), weights.tensors_of(self._model))
        return self._state.history

    def _epoch(self, stop: Stop) -> None:
        """Train one epoch, or the rest of a restored one, and validate it."""
        began = time.perf_counter()
        self._model.train()
        recent = Recent()
        for batch in self._batches(len(self._state.history)):
            self._run_events()
            recent.add(self._step(batch))
            self._notify(recent, stop)
        with self._state.average.in_place() if self._state.average is not None else nullcontext():
            self._finish_epoch(began)

    def _step(self, batch: Batch) -> BatchLoss:
        """Take one step of the optimizer; return the loss of the batch, without gradients."""
        state, weight = self._state, batch.weight
        loss, accuracy = self._loss(self._trained_model, batch)
        state.optimizer.zero_grad(set_to_none=True)
        (loss if weight == 1 else loss * weight).backward()
        state.optimizer.step()
        state.rate.step()
        state.step += 1
        if state.average is not None:
            state.average.step(state.step)
        state.epoch_loss += loss.detach() * (batch.size if weight else 0)
        return BatchLoss(loss.detach(), accuracy)

    def _notify(self, recent: "Recent", stop: Stop) -> None:
        """Show the figures of recent steps now and then, and stop the training after a signal.

        Several processes must agree to stop, which takes time, so they ask each other only where figures are shown.
        """
        is_due = self._state.step % NOTIFY_EVERY == 0 or self._state.step == self._total_steps
        if is_due or recent.seconds > NOTIFY_AFTER:
            self._observer.finished_steps(self._state.step, *recent.take())
        if (is_due or WORLD_SIZE == 1) and distributed.any_of(stop.requested, self._device):
            self._stop()

    def _batches(self, epoch: int) -> Iterator[Batch]:
        """Return the batches of an epoch; of a restored epoch only the rest.

        The order is the same in all processes; the random numbers of augmentation and dropout are not.
        """
        seed, settings = self._settings.seed, self._settings
        order = torch.Generator().manual_seed(mixed(seed, epoch, 0, 0))
        chance = self._state.generator.manual_seed(mixed(seed, epoch, RANK, 1))
        torch.manual_seed(mixed(seed, epoch, RANK, 2))
        first = self._state.step - epoch * self._steps_per_epoch
        batches = self._train.drawn_batches(
            Draw(order, chance, settings.batch_size, settings.augment, first, divided=True)
        )
        self._state.restore_random()
        return batches

    def _wrapped(self) -> nn.Module:
        """Return the model as it is called in training: in parallel, and compiled, as the settings say."""
        model = distributed.parallel(self._model)
        return torch.compile(model) if self._settings.compile else model  # type: ignore[return-value]  # a module too

    def _run_events(self) -> None:
        """Run the events that are due since the step before."""
        before = (self._state.step - 1) / self._steps_per_epoch if self._state.step else -math.inf
        for time_of_event, action in self._plan.events:
            if before < time_of_event <= self._state.step / self._steps_per_epoch:
                action()
                self._model.train()  # an event may evaluate the network

    def _finish_epoch(self, began: float) -> None:
        """Validate the epoch, record it, and keep the network if it is the best so far."""
        result = self._evaluate() if len(self._validation) else None
        record = self._record(result, time.perf_counter() - began)
        if not math.isfinite(record.train_loss):
            raise DcompError(f"the loss is {record.train_loss} in epoch {record.epoch}; a smaller --lr may help")
        self._state.epoch_loss.zero_()
        self._state.history.append(record)
        self._observer.finished_epoch(record)
        rank = 0.0, 0.0  # without validation the last epoch is the best
        if result is not None:
            self._state.rate.end_epoch(result.loss)
            rank = result.rank
        if record.epoch > self._plan.eligible_after and (self._state.best is None or rank <= self._state.best[0]):
            self._state.keep_as_best(rank)

    def _record(self, result: Measurement | None, seconds: float) -> EpochRecord:
        """Return the record of the epoch that ends now."""
        objective = self._train.objective
        return EpochRecord(
            epoch=len(self._state.history) + 1,
            train_loss=distributed.totals([self._state.epoch_loss.item()], self._device)[0] / self._train.drawn,
            val_metrics=result.metrics if result else dict.fromkeys(objective.metric_names),
            judge=objective.judge,
            lr=self._state.rate.last,
            sparsity=weights.sparsity(self._model),
            layers=weights.sparsities(self._model),
            seconds=seconds,
        )

    def _choice(self) -> ChosenEpoch:
        """Return which epoch the model ends with, and the value of the judge that chose it."""
        epochs, judge = len(self._state.history), self._train.objective.judge
        candidates = [record for record in self._state.history if record.epoch > self._plan.eligible_after]
        first = candidates[0].epoch if candidates else epochs
        if self._state.best is None or not len(self._validation):
            return ChosenEpoch(epochs, epochs, first, None, 0, tied=False, judge=judge)
        cost, loss = self._state.best[0]
        judged = judge.cost(cost)
        tied = [record for record in candidates if record.val_judged == judged]
        epoch = next((record.epoch for record in reversed(tied) if record.val_loss == loss), 0)
        return ChosenEpoch(epoch, epochs, first, judged, len(self._validation), tied=len(tied) > 1, judge=judge)

    def _evaluate(self) -> Measurement:
        return evaluate(self._model, self._validation, self._settings.precision)

    def _is_over(self) -> bool:
        """Tell whether the training ends early; say so."""
        is_over = early_stopping.is_over(self._settings, choice := self._choice(), self._state.history)
        if is_over:
            waited = f"{self._settings.early_stop} epochs without a better one"
            self._observer.note(f"stopped after epoch {choice.epochs} of {self._epochs}: {waited}")
        return is_over

    def _stop(self) -> None:
        """Save the state and raise StoppedError."""
        assert self._keeper is not None  # without one, `Stop` does not listen
        self._state.save(self._keeper, len(self._train))
        raise self._keeper.stopped(len(self._state.history))


class Recent:
    """Losses and accuracies, on the device, of the steps since figures were last shown."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._losses: list[BatchLoss] = []

    def add(self, loss: BatchLoss) -> None:
        """Add one batch."""
        self._losses.append(loss)

    @property
    def seconds(self) -> float:
        """Seconds since figures were last shown."""
        return time.perf_counter() - self._began

    def take(self) -> tuple[float, float | None]:
        """Return mean loss and accuracy of the batches since the last call; no accuracy where the task has none."""
        accuracies = [loss.accuracy for loss in self._losses if loss.accuracy is not None]
        mean = torch.stack([loss.value for loss in self._losses]).mean().item()
        accuracy = torch.stack(accuracies).mean().item() if accuracies else None
        self._losses.clear()
        self._began = time.perf_counter()
        return mean, accuracy
