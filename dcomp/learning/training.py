"""One training loop for every stage. It knows nothing about compression: constraints live in the model."""

import copy
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dcomp.errors import DcompError, UsageError
from dcomp.learning.datasets import Split
from dcomp.learning.evaluation import Evaluation, evaluate
from dcomp.observer import EpochRecord, Observer
from dcomp.settings import LearningSettings

DEVICES = ("cpu", "cuda", "mps", "xpu")
NOTIFY_EVERY = 20  # steps; asking a device for its loss at each step would make it wait


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA, else MPS, else the CPU.

    Raises:
        UsageError: torch has no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        if torch.device(name).type not in DEVICES:
            raise UsageError(f"--device {name}: give one of auto, {', '.join(DEVICES)}")
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {name}: not available here; try auto or cpu") from error


def fit(
    model: nn.Module,
    train: Split,
    validation: Split,
    settings: LearningSettings,
    observer: Observer,
    *,
    before_step: Callable[[float], None] = lambda time: None,
    eligible_after: float = 0.0,
    start_counts: bool = False,
) -> list[EpochRecord]:
    """Train for `settings.epochs` and leave the model at its best epoch by validation error, then loss.

    Without a validation split (`val_split` 0) the last epoch stands.

    Args:
        model: on the device of the splits.
        train: examples to learn from.
        validation: examples to choose the best epoch by.
        settings: epochs, batch size, optimizer and its rates, augmentation, seed.
        observer: told of progress.
        before_step: called before each step with the time in epochs; pruning schedules move masks there.
        eligible_after: only epochs that end after this time are candidates for the best.
        start_counts: whether the network as it comes is a candidate too.

    Raises:
        DcompError: the loss is no longer a number.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    steps_per_epoch = math.ceil(len(train) / settings.batch_size)
    total_steps = steps_per_epoch * settings.epochs
    optimizer = make_optimizer(model, settings)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_factor(settings, total_steps))
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # convolutions run 1.7 times as fast
    observer.started(total_steps)
    history: list[EpochRecord] = []
    best: tuple[tuple[float, float], dict[str, Tensor]] | None = None
    if start_counts and len(validation):
        at_start = evaluate(model, validation)
        best = (at_start.top1_error, at_start.loss), copy.deepcopy(model.state_dict())
    step = 0
    for epoch in range(1, settings.epochs + 1):
        model.train()
        epoch_loss = torch.zeros((), device=next(model.parameters()).device)
        recent = Recent()
        for stored, labels in train.batches(_batches(len(train), settings.batch_size, generator)):
            before_step(step / steps_per_epoch)
            logits = model(train.preprocessing.train(stored, settings.augment, generator))
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            epoch_loss += loss.detach() * len(labels)
            recent.add(loss.detach(), (logits.detach().argmax(1) == labels).float().mean())
            if step % NOTIFY_EVERY == 0 or step == total_steps:
                observer.stepped(step, *recent.take())
        judged = evaluate(model, validation) if len(validation) else Evaluation(0, 0, 0, 0)
        record = EpochRecord(epoch, epoch_loss.item() / len(train), judged.loss, judged.top1_error)
        if not math.isfinite(record.train_loss):
            raise DcompError(f"the loss is {record.train_loss} in epoch {epoch}; a smaller --lr may help")
        history.append(record)
        observer.finished_epoch(record)
        rank = (record.val_error, record.val_loss)
        if epoch > eligible_after and (best is None or not len(validation) or rank <= best[0]):
            best = rank, copy.deepcopy(model.state_dict())
    if best is not None:
        model.load_state_dict(best[1])
    return history


class Recent:
    """Loss and accuracy summed on the device since they were last shown."""

    def __init__(self) -> None:
        self._loss: list[Tensor] = []
        self._accuracy: list[Tensor] = []

    def add(self, loss: Tensor, accuracy: Tensor) -> None:
        """Remember one batch."""
        self._loss.append(loss)
        self._accuracy.append(accuracy)

    def take(self) -> tuple[float, float]:
        """Mean loss and accuracy of the batches since the last call."""
        means = torch.stack(self._loss).mean().item(), torch.stack(self._accuracy).mean().item()
        self._loss.clear()
        self._accuracy.clear()
        return means


def make_optimizer(model: nn.Module, settings: LearningSettings) -> torch.optim.Optimizer:
    """The optimizer that the settings name, over all of the model's parameters."""
    parameters, lr, decay = model.parameters(), settings.lr, settings.weight_decay
    match settings.optimizer:
        case "sgd":
            return torch.optim.SGD(
                parameters, lr, settings.momentum, weight_decay=decay, nesterov=settings.momentum > 0
            )
        case "adam":
            return torch.optim.Adam(parameters, lr, weight_decay=decay)
        case "adamw":
            return torch.optim.AdamW(parameters, lr, weight_decay=decay)


def lr_factor(settings: LearningSettings, total_steps: int) -> Callable[[int], float]:
    """Step -> fraction of the learning rate: `step` divides by ten at one half and at three quarters."""

    def factor(step: int) -> float:
        progress = step / max(total_steps, 1)
        match settings.lr_schedule:
            case "constant":
                return 1.0
            case "step":
                return float(0.1 ** ((progress >= 0.5) + (progress >= 0.75)))
            case "cosine":
                return 0.5 * (1 + math.cos(math.pi * min(progress, 1)))

    return factor


def _batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    yield from torch.randperm(count, generator=generator).split(batch_size)
