"""One training loop for every stage. It does nothing about compression: constraints live in the model.

Random numbers are seeded anew in each epoch, by the seed and the epoch's number, so the step says where a run stands.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dcomp.errors import CheckpointError, DcompError, first_line
from dcomp.learning import constraints, distributed, state
from dcomp.learning.averaging import Average
from dcomp.learning.datasets import Split
from dcomp.learning.devices import check_compiler, in_precision, restore_threads
from dcomp.learning.evaluation import Evaluation, evaluate
from dcomp.learning.fit_plan import ALL_EPOCHS, FitPlan
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


def fit(
    model: nn.Module,
    train: Split,
    validation: Split,
    settings: LearningSettings,
    observer: Observer,
    plan: FitPlan = ALL_EPOCHS,
    *,
    teacher: nn.Module | None = None,
    keeper: Keeper | None = None,
    on_restore: Callable[[], None] = lambda: None,
) -> list[EpochRecord]:
    """Train, and leave the model at its best epoch by validation error, then loss.

    Without a validation split (`val_split` 0) the last epoch is kept.

    Args:
        model: on the device of the splits.
        train: examples to learn from.
        validation: examples to choose the best epoch by.
        settings: batch size, optimizer and its rates, augmentation, seed.
        observer: watches.
        plan: of this training.
        teacher: a network on the same device, whose answers the model learns beside the labels.
        keeper: saves the state, and may have one to restore.
        on_restore: called after a state is restored, and with it other masks.

    Raises:
        DcompError: the loss is not finite.
        StoppedError: Ctrl-C or SIGTERM came, and the state is saved.
    """
    training = _Training(model, train, validation, settings, observer, plan, Loss(settings, teacher), keeper)
    if training.restore():
        on_restore()
    elif plan.start_counts:
        training.count_start()
    return training.run()


class _Training:
    """The epochs of one training, and their results so far."""

    def __init__(
        self,
        model: nn.Module,
        train: Split,
        validation: Split,
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
        self._steps_per_epoch = math.ceil(len(train) / settings.batch_size)
        self._total_steps = self._steps_per_epoch * self._epochs
        self._optimizer = make_optimizer(model, settings)
        self._logits_of: Callable[[Tensor], Tensor] = model
        self._rate = LearningRate(self._optimizer, settings, self._epochs, self._steps_per_epoch)
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

    def run(self) -> list[EpochRecord]:
        """Train what is left of the epochs, and put the best of them into the model."""
        self._logits_of = self._forward()
        self._observer.started(self._total_steps, self._history, self._epochs)
        if self._step == 0:
            self._observer.weights(0, constraints.effective_tensors(self._model))
        with Stop(listening=self._keeper is not None) as stop:
            while len(self._history) < self._epochs:
                self._epoch(stop)
                if self._keeper is not None and distributed.any_of(IS_FIRST and self._keeper.due, self._device):
                    self._save(self._keeper)
        if self._best is not None:
            self._model.load_state_dict(self._best[1])
        self._observer.chose_epoch(self._choice())
        self._observer.weights(self._epochs, constraints.effective_tensors(self._model))
        return self._history

    def _epoch(self, stop: Stop) -> None:
        began = time.perf_counter()
        self._model.train()
        recent = Recent()
        for images, labels, weight in self._batches(len(self._history)):
            self._run_events()
            with in_precision(self._device, self._settings.precision):
                logits = self._logits_of(images)
            loss = self._loss(images, logits.float(), labels)
            self._optimizer.zero_grad(set_to_none=True)
            (loss if weight == 1 else loss * weight).backward()
            if self._settings.clip_norm is not None:
                nn.utils.clip_grad_norm_(self._model.parameters(), self._settings.clip_norm)
            self._optimizer.step()
            self._rate.step()
            self._step += 1
            if self._average is not None:
                self._average.step(self._step)
            self._epoch_loss += loss.detach() * (len(labels) if weight else 0)
            recent.add(loss.detach(), (logits.detach().argmax(1) == labels).float().mean())
            agree = self._step % NOTIFY_EVERY == 0 or self._step == self._total_steps
            if agree or recent.seconds > NOTIFY_AFTER:
                self._observer.finished_steps(self._step, *recent.take())
            if (agree or WORLD_SIZE == 1) and distributed.any_of(stop.requested, self._device):  # several have to agree
                self._stop()
        with self._average.in_place() if self._average is not None else nullcontext():
            self._finish_epoch(began)

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor, float]]:
        """Yield augmented images, labels and their weight, batch by batch; of a restored epoch only what is left.

        The order is the same in all processes; the random numbers of augmentation and dropout are not.
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
        batches = self._train.batches([indices for indices, _ in parts])
        for (stored, labels), (_, weight) in zip(batches, parts, strict=True):
            images = self._train.preprocessing.train(stored, self._settings.augment, self._generator)
            yield images, labels, weight

    def _forward(self) -> Callable[[Tensor], Tensor]:
        """Return the function that gives logits in training."""
        model = distributed.parallel(self._model)
        return torch.compile(model) if self._settings.compile else model

    def _run_events(self) -> None:
        """Run the events whose time has come since the step before."""
        before = (self._step - 1) / self._steps_per_epoch if self._step else -math.inf
        for time_of_event, action in self._plan.events:
            if before < time_of_event <= self._step / self._steps_per_epoch:
                action()
                self._model.train()  # an event may evaluate the network

    def _finish_epoch(self, began: float) -> None:
        result = self._evaluate() if len(self._validation) else None
        record = self._record(result, time.perf_counter() - began)
        if not math.isfinite(record.train_loss):
            raise DcompError(f"the loss is {record.train_loss} in epoch {record.epoch}; a smaller --lr may help")
        self._epoch_loss.zero_()
        self._history.append(record)
        self._observer.finished_epoch(record)
        rank = 0.0, 0.0  # without validation the last epoch is the best
        if result is not None:
            self._rate.end_epoch(result.loss)
            rank = result.top1_error, result.loss
        if record.epoch > self._plan.eligible_after and (self._best is None or rank <= self._best[0]):
            self._best = rank, copy.deepcopy(self._model.state_dict())

    def _record(self, result: Evaluation | None, seconds: float) -> EpochRecord:
        """Return the record of the epoch that ends now."""
        zeros = constraints.sparsities(self._model)
        return EpochRecord(
            epoch=len(self._history) + 1,
            train_loss=distributed.totals([self._epoch_loss.item()], self._device)[0] / len(self._train),
            val_loss=result.loss if result else None,
            val_error=result.top1_error if result else None,
            val_top5_error=result.top5_error if result else None,
            lr=self._rate.last,
            sparsity=sum(count for count, _ in zeros.values()) / max(sum(size for _, size in zeros.values()), 1),
            layers={name: count / size for name, (count, size) in zeros.items()},
            seconds=seconds,
        )

    def _choice(self) -> ChosenEpoch:
        """Return which epoch is in the model, and what it was chosen by."""
        epochs, candidates = len(self._history), [r for r in self._history if r.epoch > self._plan.eligible_after]
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
        assert self._keeper is not None  # without one, `Stop` does not listen
        self._save(self._keeper)
        raise self._keeper.stopped(len(self._history))

    def _save(self, keeper: Keeper) -> None:
        optimizer, optimizer_facts = state.optimizer_parts(self._optimizer)
        of_this_process = {**state.random_state(self._generator, self._device), LOSS: self._epoch_loss}
        parts: state.Parts = {
            "model": self._model.state_dict(),
            "optimizer": optimizer,
            "process": {
                f"{rank}.{name}": tensor
                for name, tensor_here in of_this_process.items()
                for rank, tensor in enumerate(distributed.gathered(tensor_here, self._device))
            },
        }
        if self._best is not None:
            parts["best"] = self._best[1]
        if self._average is not None:
            parts["average"] = {str(number): average for number, average in enumerate(self._average.tensors)}
        if IS_FIRST:
            keeper.save(parts, {**self._facts(), "optimizer": optimizer_facts})

    def _facts(self) -> dict[str, Any]:
        """Return what a state holds besides tensors."""
        return {
            "step": self._step,
            "threads": torch.get_num_threads(),
            "examples": len(self._train),
            "history": [vars(record) for record in self._history],
            "best": self._best[0] if self._best is not None else None,
            "rate": self._rate.state(),
        }

    def restore(self) -> bool:
        """Restore the state that the keeper has; return whether it has one.

        Raises:
            CheckpointError: the state does not fit this network and data.
        """
        saved = self._keeper.load() if self._keeper is not None else None
        if saved is None:
            return False
        assert self._keeper is not None  # it loaded the state
        parts, facts = saved
        try:
            if facts["examples"] != len(self._train):
                raise ValueError(f"it is of {facts['examples']} training examples, not {len(self._train)}")
            restore_threads(facts["threads"], self._settings.threads)
            self._restore_model(parts, facts)
            self._restore_history(parts, facts)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"the state {self._keeper.file.path} does not fit: {first_line(error)}") from error
        return True

    def _restore_model(self, parts: state.Parts, facts: Mapping[str, Any]) -> None:
        """Restore the model and all that follows its parameters."""
        self._model.load_state_dict(parts["model"])
        state.restore_optimizer(self._optimizer, parts.get("optimizer", {}), facts["optimizer"])
        self._rate.restore(facts["rate"])
        if self._average is not None:
            averages = parts["average"]
            self._average.restore([averages[str(number)] for number in range(len(averages))])

    def _restore_history(self, parts: state.Parts, facts: Mapping[str, Any]) -> None:
        """Restore what the training has come to, and the random numbers where it stopped within an epoch."""
        self._step = facts["step"]
        self._history = [EpochRecord(**record) for record in facts["history"]]
        if IS_FIRST:
            self._epoch_loss += sum(tensor for name, tensor in parts["process"].items() if name.endswith(LOSS))
        if facts["best"] is not None:
            self._best = tuple(facts["best"]), {name: tensor.to(self._device) for name, tensor in parts["best"].items()}
        if self._step > len(self._history) * self._steps_per_epoch:
            prefix = f"{RANK}."
            here = [name for name in parts["process"] if name.startswith(prefix)]
            self._random = {name.removeprefix(prefix): parts["process"][name] for name in here}


class Recent:
    """Loss and accuracy summed on the device since they were last shown."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._loss: list[Tensor] = []
        self._accuracy: list[Tensor] = []

    def add(self, loss: Tensor, accuracy: Tensor) -> None:
        """Add one batch."""
        self._loss.append(loss)
        self._accuracy.append(accuracy)

    @property
    def seconds(self) -> float:
        """Seconds since they were last shown."""
        return time.perf_counter() - self._began

    def take(self) -> tuple[float, float]:
        """Return mean loss and accuracy of the batches since the last call."""
        means = torch.stack(self._loss).mean().item(), torch.stack(self._accuracy).mean().item()
        self._loss.clear()
        self._accuracy.clear()
        self._began = time.perf_counter()
        return means


def mixed(*numbers: int) -> int:
    """Return one seed made from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
