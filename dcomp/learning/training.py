"""One training loop for every stage. It knows nothing about compression: constraints live in the model.

Chance is seeded anew in each epoch, by the seed and the epoch's number, so where a run stands is known from the step.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dcomp.errors import CheckpointError, DcompError, first_line
from dcomp.learning import constraints, distributed, state
from dcomp.learning.averaging import Average
from dcomp.learning.datasets import Split
from dcomp.learning.devices import check_compiler, go_on_with_threads, in_precision
from dcomp.learning.evaluation import Evaluation, evaluate
from dcomp.learning.losses import Loss
from dcomp.learning.optimization import LearningRate, make_optimizer
from dcomp.learning.state import Keeper
from dcomp.progress.observer import ChosenEpoch, EpochRecord, Observer
from dcomp.progress.resumption import Stop
from dcomp.settings import LearningSettings
from dcomp.system.ranks import IS_FIRST, RANK, WORLD_SIZE

LOSS = "loss"  # the name of an epoch's loss so far, in a state
NOTIFY_EVERY = 20  # steps; asking a device for its loss at each step would make it wait
NOTIFY_AFTER = 2.0  # seconds, where so many steps take longer

Event = tuple[float, Callable[[], None]]
"""A time in epochs, and what happens before the first step from then on."""


def fit(
    model: nn.Module,
    train: Split,
    validation: Split,
    settings: LearningSettings,
    observer: Observer,
    *,
    events: Sequence[Event] = (),
    eligible_after: float = 0.0,
    start_counts: bool = False,
    teacher: nn.Module | None = None,
    keeper: Keeper | None = None,
    taken_up: Callable[[], None] = lambda: None,
) -> list[EpochRecord]:
    """Train for `settings.epochs` and leave the model at its best epoch by validation error, then loss.

    Without a validation split (`val_split` 0) the last epoch stands.

    Args:
        model: on the device of the splits.
        train: examples to learn from.
        validation: examples to choose the best epoch by.
        settings: epochs, batch size, optimizer and its rates, augmentation, seed.
        observer: told of progress.
        events: what happens at which time; pruning schedules move masks so.
        eligible_after: only epochs that end after this time are candidates for the best.
        start_counts: whether the network as it comes is a candidate too.
        teacher: whose answers the model learns beside the labels, on the same device.
        keeper: keeps the state, and may have one to take up.
        taken_up: called when a state has been taken up, and with it other masks.

    Raises:
        DcompError: the loss is no longer a number.
        StoppedError: Ctrl-C or SIGTERM came, and the state is saved.
    """
    run = _Training(
        model, train, validation, settings, observer, events, eligible_after, Loss(settings, teacher), keeper
    )
    if run.taken_up():
        taken_up()
    elif start_counts:
        run.count_start()
    return run.to_end()


class _Training:
    """A run of epochs, and what it has come to so far."""

    def __init__(
        self,
        model: nn.Module,
        train: Split,
        validation: Split,
        settings: LearningSettings,
        observer: Observer,
        events: Sequence[Event],
        eligible_after: float,
        loss: Loss,
        keeper: Keeper | None,
    ) -> None:
        if settings.compile:
            check_compiler(next(model.parameters()).device)
        self._model = model
        self._train, self._validation = train, validation
        self._settings, self._observer = settings, observer
        self._events, self._eligible_after = events, eligible_after
        self._loss, self._keeper = loss, keeper
        self._device = next(model.parameters()).device
        self._steps_per_epoch = math.ceil(len(train) / settings.batch_size)
        self._total_steps = self._steps_per_epoch * settings.epochs
        self._optimizer = make_optimizer(model, settings)
        self._logits_of: Callable[[Tensor], Tensor] = model
        self._rate = LearningRate(self._optimizer, settings, self._steps_per_epoch)
        self._average = Average(model, settings.ema) if settings.ema is not None else None
        self._generator = torch.Generator()
        self._step = 0
        self._epoch_loss = torch.zeros((), device=self._device)
        self._history: list[EpochRecord] = []
        self._best: tuple[tuple[float, float], dict[str, Tensor]] | None = None
        self._random: dict[str, Tensor] = {}

    def count_start(self) -> None:
        """Make the network as it is the best so far."""
        if len(self._validation):
            at_start = self._evaluate()
            self._best = (at_start.top1_error, at_start.loss), copy.deepcopy(self._model.state_dict())

    def to_end(self) -> list[EpochRecord]:
        """Train what is left of the epochs, and put the best of them into the model."""
        self._logits_of = self._forward()
        self._observer.started(self._total_steps, self._history, self._settings.epochs)
        if self._step == 0:
            self._observer.weights(0, constraints.effective_tensors(self._model))
        with Stop(listening=self._keeper is not None) as stop:
            while len(self._history) < self._settings.epochs:
                self._epoch(stop)
                if self._keeper is not None and distributed.any_of(IS_FIRST and self._keeper.due, self._device):
                    self._save(self._keeper)
        if self._best is not None:
            self._model.load_state_dict(self._best[1])
        self._observer.chose_epoch(self._kept())
        self._observer.weights(self._settings.epochs, constraints.effective_tensors(self._model))
        return self._history

    def _epoch(self, stop: Stop) -> None:
        began = time.perf_counter()
        self._model.train()
        recent = Recent()
        for images, labels, weight in self._batches(len(self._history)):
            self._happen()
            with in_precision(self._device, self._settings.precision):
                logits = self._logits_of(images)
            loss = self._loss(images, logits.float(), labels)
            self._optimizer.zero_grad(set_to_none=True)
            (loss if weight == 1 else loss * weight).backward()
            if self._settings.clip_norm is not None:
                nn.utils.clip_grad_norm_(self._model.parameters(), self._settings.clip_norm)
            self._optimizer.step()
            self._rate.stepped()
            self._step += 1
            if self._average is not None:
                self._average.step(self._step)
            self._epoch_loss += loss.detach() * (len(labels) if weight else 0)
            recent.add(loss.detach(), (logits.detach().argmax(1) == labels).float().mean())
            agree = self._step % NOTIFY_EVERY == 0 or self._step == self._total_steps
            if agree or recent.seconds > NOTIFY_AFTER:
                self._observer.finished_steps(self._step, *recent.take())
            if (agree or WORLD_SIZE == 1) and distributed.any_of(stop.asked, self._device):  # several have to agree
                self._stop()
        with self._average.in_place() if self._average is not None else nullcontext():
            self._finish_epoch(began)

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor, float]]:
        """Augmented images, labels and their weight, batch by batch; of an epoch begun before, what is left of it.

        The order is the same in all processes; each has its own chance in augmentation and dropout.
        """
        seed = self._settings.seed
        shuffled = torch.randperm(len(self._train), generator=torch.Generator().manual_seed(mixed(seed, epoch, 0, 0)))
        order = shuffled.split(self._settings.batch_size)
        self._generator.manual_seed(mixed(seed, epoch, RANK, 1))
        torch.manual_seed(mixed(seed, epoch, RANK, 2))
        if self._random:
            state.restore_random(self._random, self._generator, self._device)
            self._random = {}
        left = order[self._step - epoch * self._steps_per_epoch :]
        parts = [distributed.part_of(indices) for indices in left]
        batches = self._train.batches([own for own, _ in parts])
        for (stored, labels), (_, weight) in zip(batches, parts, strict=True):
            images = self._train.preprocessing.train(stored, self._settings.augment, self._generator)
            yield images, labels, weight

    def _forward(self) -> Callable[[Tensor], Tensor]:
        """What gives logits in training."""
        model = distributed.parallel(self._model)
        return torch.compile(model) if self._settings.compile else model

    def _happen(self) -> None:
        """Let the events happen whose time has come since the step before."""
        before = (self._step - 1) / self._steps_per_epoch if self._step else -math.inf
        for at, action in self._events:
            if before < at <= self._step / self._steps_per_epoch:
                action()
                self._model.train()  # those who look at the network have it evaluate

    def _finish_epoch(self, began: float) -> None:
        judged = self._evaluate() if len(self._validation) else None
        zeros = constraints.sparsities(self._model)
        record = EpochRecord(
            epoch=len(self._history) + 1,
            train_loss=distributed.totals([self._epoch_loss.item()], self._device)[0] / len(self._train),
            val_loss=judged.loss if judged else None,
            val_error=judged.top1_error if judged else None,
            val_top5_error=judged.top5_error if judged else None,
            lr=self._rate.last,
            sparsity=sum(count for count, _ in zeros.values()) / max(sum(size for _, size in zeros.values()), 1),
            layers={name: count / size for name, (count, size) in zeros.items()},
            seconds=time.perf_counter() - began,
        )
        if not math.isfinite(record.train_loss):
            raise DcompError(f"the loss is {record.train_loss} in epoch {record.epoch}; a smaller --lr may help")
        self._epoch_loss.zero_()
        self._history.append(record)
        self._observer.finished_epoch(record)
        rank = 0.0, 0.0  # without validation the last epoch is the best
        if judged is not None:
            self._rate.judged(judged.loss)
            rank = judged.top1_error, judged.loss
        if record.epoch > self._eligible_after and (self._best is None or rank <= self._best[0]):
            self._best = rank, copy.deepcopy(self._model.state_dict())

    def _kept(self) -> ChosenEpoch:
        """Say which epoch is in the model, and what it was chosen by."""
        epochs, candidates = len(self._history), [r for r in self._history if r.epoch > self._eligible_after]
        first = candidates[0].epoch if candidates else epochs
        if self._best is None or not len(self._validation):
            return ChosenEpoch(epochs, epochs, first, None, 0, tied=False)
        error, loss = self._best[0]
        equals = [record for record in candidates if record.val_error == error]
        epoch = next((record.epoch for record in reversed(equals) if record.val_loss == loss), 0)
        return ChosenEpoch(epoch, epochs, first, error, len(self._validation), tied=len(equals) > 1)

    def _evaluate(self) -> Evaluation:
        return evaluate(self._model, self._validation, self._settings.precision)

    def _stop(self) -> None:
        assert self._keeper is not None  # otherwise nobody listens to those who ask
        self._save(self._keeper)
        raise self._keeper.stopped(len(self._history))

    def _save(self, keeper: Keeper) -> None:
        tensors, plain = state.optimizer_parts(self._optimizer)
        parts: state.Parts = {
            "model": self._model.state_dict(),
            "optimizer": tensors,
            "process": {
                f"{number}.{name}": tensor
                for name, own in {**state.random_state(self._generator, self._device), LOSS: self._epoch_loss}.items()
                for number, tensor in enumerate(distributed.gathered(own, self._device))
            },
        }
        if self._best is not None:
            parts["best"] = self._best[1]
        if self._average is not None:
            parts["average"] = {str(number): average for number, average in enumerate(self._average.tensors)}
        facts: dict[str, Any] = {
            "step": self._step,
            "threads": torch.get_num_threads(),
            "examples": len(self._train),
            "history": [vars(record) for record in self._history],
            "best": self._best[0] if self._best is not None else None,
            "rate": self._rate.state(),
            "optimizer": plain,
        }
        if IS_FIRST:
            keeper.save(parts, facts)

    def taken_up(self) -> bool:
        """Go on from the state that the keeper has; whether it has one.

        Raises:
            CheckpointError: the state does not fit this network and data.
        """
        kept = self._keeper.load() if self._keeper is not None else None
        if kept is None:
            return False
        parts, facts = kept
        try:
            if facts["examples"] != len(self._train):
                raise ValueError(f"it is of {facts['examples']} training examples, not {len(self._train)}")
            go_on_with_threads(facts["threads"], self._settings.threads)
            self._model.load_state_dict(parts["model"])
            state.restore_optimizer(self._optimizer, parts.get("optimizer", {}), facts["optimizer"])
            self._rate.restore(facts["rate"])
            if self._average is not None:
                averages = parts["average"]
                self._average.restore([averages[str(number)] for number in range(len(averages))])
            self._step = facts["step"]
            self._history = [EpochRecord(**record) for record in facts["history"]]
            if IS_FIRST:
                self._epoch_loss += sum(kept for name, kept in parts["process"].items() if name.endswith(LOSS))
            if facts["best"] is not None:
                best = {name: tensor.to(self._device) for name, tensor in parts["best"].items()}
                self._best = tuple(facts["best"]), best
            if self._step > len(self._history) * self._steps_per_epoch:
                own = f"{RANK}."
                self._random = {
                    name.removeprefix(own): kept for name, kept in parts["process"].items() if name.startswith(own)
                }
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            assert self._keeper is not None
            raise CheckpointError(f"the state {self._keeper.file.path} does not fit: {first_line(error)}") from error
        return True


class Recent:
    """Loss and accuracy summed on the device since they were last shown."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._loss: list[Tensor] = []
        self._accuracy: list[Tensor] = []

    def add(self, loss: Tensor, accuracy: Tensor) -> None:
        """Remember one batch."""
        self._loss.append(loss)
        self._accuracy.append(accuracy)

    @property
    def seconds(self) -> float:
        """How long ago they were shown."""
        return time.perf_counter() - self._began

    def take(self) -> tuple[float, float]:
        """Mean loss and accuracy of the batches since the last call."""
        means = torch.stack(self._loss).mean().item(), torch.stack(self._accuracy).mean().item()
        self._loss.clear()
        self._accuracy.clear()
        self._began = time.perf_counter()
        return means


def mixed(*numbers: int) -> int:
    """One seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
