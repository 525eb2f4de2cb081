"""A network, its data and its constraints, from a checkpoint's tensors and back to them."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

from dcomp.checkpoints.checkpoint import ARCHITECTURE_KEY, Checkpoint
from dcomp.errors import ArchitectureError, CheckpointError, first_line
from dcomp.learning import architectures, constraints, datasets, distributed, fisher, paths
from dcomp.learning.architectures import arguments
from dcomp.learning.architectures.arguments import Arguments
from dcomp.learning.conversion import to_numpy
from dcomp.learning.datasets import Dataset, ImageForm, Split
from dcomp.learning.devices import choose_device, choose_threads
from dcomp.learning.dropout import DropoutRule
from dcomp.learning.evaluation import Evaluation, evaluate
from dcomp.learning.losses import Loss
from dcomp.learning.state import Keeper, Origin
from dcomp.learning.training import Event, fit
from dcomp.progress.observer import EpochRecord, Observer
from dcomp.progress.resumption import StateFile
from dcomp.settings import DataSettings, EvalSettings, LearningSettings


class Session:
    """One stage's worth of learning: a model on a device, and a data set."""

    def __init__(
        self,
        architecture: str,
        checkpoint: Checkpoint | None,
        settings: LearningSettings,
        observer: Observer,
        *,
        pretrained: bool = False,
        teacher: Checkpoint | None = None,
        whole: LearningSettings | None = None,
    ) -> None:
        """Load the data, build the network for it, and fill that from the checkpoint, or torchvision's, if it has one.

        A teacher sees the images that the network sees. With `whole`, `settings` are for one of several trainings in a
        stage that has those settings as a whole.

        Raises:
            ArchitectureError: no such network, or checkpoint or data do not fit it.
            DataError: the data set cannot be had.
        """
        self._settings = settings
        self._architecture = architecture
        self._device = distributed.join(choose_device(settings.device))
        self._origin = Origin.of(whole or settings, checkpoint, teacher)
        known = Arguments(architecture, checkpoint, settings)
        data = _load(known, settings, observer)
        train, validation = data.split_validation(settings.val_split, settings.seed)
        self._train, self._validation = train.to(self._device), validation.to(self._device)
        observer.activity(f"building {architecture}")
        self._arguments, self._resize = known.complete(data.train), known.resize
        torch.manual_seed(settings.seed)
        self._model = distributed.synchronized(_filled(architecture, self._arguments, checkpoint).to(self._device))
        if pretrained:
            with distributed.first_goes_ahead():
                architectures.load_pretrained(self._model, architecture)
        _lay_out(self._model, one_image(self._train))
        classes = check_fit(self._model, self._train, architecture)
        choose_threads(settings.threads, self._model, one_image(self._train), observer)
        self._teacher = _teacher(teacher, self._train, classes) if teacher is not None else None
        self._dropout = DropoutRule(self._model, one_image(self._train))
        self._dtypes = {name: array.dtype for name, array in checkpoint.tensors.items()} if checkpoint else {}

    @property
    def steps_per_epoch(self) -> int:
        """Training steps in an epoch."""
        return math.ceil(len(self._train) / self._settings.batch_size)

    @property
    def last_step(self) -> int:
        """The number of the last training step, the first being 0."""
        return self._settings.epochs * self.steps_per_epoch - 1

    def mask(self, masks: Mapping[str, np.ndarray]) -> None:
        """Hold weights at zero where their mask is False; what was pruned stays pruned."""
        for name, kept in masks.items():
            constraints.mask(self._model, name, kept)
        self._dropout.apply()

    def mask_dead(self) -> None:
        """Hold weights and biases that lie on no path from input to output at zero, but for those that are shared.

        Raises:
            UsageError: the network has layers for which that cannot be told.
        """
        for name, alive in paths.alive(self._model, one_image(self._train)).items():
            constraints.restrict(self._model, name, alive)
        self._dropout.apply()

    def share(self, names: Iterable[str]) -> None:
        """Hold tensors at the values they have now; those train."""
        for name in names:
            constraints.share(self._model, name)

    def hold(self, names: Iterable[str]) -> list[str]:
        """Hold tensors that are pruned or shared now, and are not held yet, so; their names."""
        return constraints.hold(self._model, names)

    def unclear(self, names: Iterable[str]) -> list[str]:
        """Those of the tensors, if they are not held, whose values may be shared or not; see `constraints`."""
        return constraints.unclear(self._model, names)

    def shared(self, names: Iterable[str]) -> list[str]:
        """Those of the tensors whose weights share few values now."""
        return [name for name in names if constraints.is_shared(self.weights(name))]

    def weights(self, name: str) -> np.ndarray:
        """A tensor as the network uses it now."""
        return constraints.effective(self._model, name)

    def squared_gradients(self, names: Iterable[str], seed: int) -> dict[str, np.ndarray]:
        """The mean squared gradient of tensors now; see `fisher.gradients`."""
        parameters = {name: constraints.trained(self._model, name) for name in names}
        loss = Loss(self._settings, self._teacher)
        squares = fisher.squared_gradients(self._model, parameters, self._train, self._settings, loss, seed)
        return {name: to_numpy(mean) for name, mean in squares.items()}

    def fit(
        self,
        observer: Observer,
        *,
        events: Sequence[Event] = (),
        eligible_after: float = 0.0,
        start_counts: bool = False,
        state: StateFile | None = None,
    ) -> list[EpochRecord]:
        """Train, and leave the network at its best epoch; see `training.fit`.

        Args:
            observer: told of progress.
            events: what happens at which time, in epochs.
            eligible_after: only epochs that end after this time are candidates for the best.
            start_counts: whether the network as it comes is a candidate too.
            state: where the state is kept, if anywhere.
        """
        self._dropout.apply()
        try:
            return fit(
                self._model,
                self._train,
                self._validation,
                self._settings,
                observer,
                events=events,
                eligible_after=eligible_after,
                start_counts=start_counts,
                teacher=self._teacher,
                keeper=Keeper(state, self._origin) if state is not None else None,
                taken_up=self._dropout.apply,
            )
        finally:
            observer.finished()

    def tensors(self) -> dict[str, np.ndarray]:
        """The network's state without constraints, in the checkpoint's dtypes and under its names."""
        constraints.release(self._model)
        state = architectures.tensors_of(self._model)
        dtypes = self._dtypes or {name: array.dtype for name, array in state.items()}
        return {name: _cast(array, dtypes[name]) for name, array in state.items() if name in dtypes}

    def metadata(self) -> dict[str, str]:
        """The metadata entries by which the checkpoint will find its network, and the form of its images, again."""
        made_with = arguments.metadata(self._arguments, self._resize)
        return {ARCHITECTURE_KEY: self._architecture, **made_with}


def evaluate_checkpoint(
    checkpoint: Checkpoint, architecture: str, settings: EvalSettings, observer: Observer
) -> Evaluation:
    """Errors of a checkpoint on the test examples of a data set.

    Raises:
        ArchitectureError: no such network, or the checkpoint does not fit it.
        DataError: the data set cannot be had.
        CheckpointError: the network's answers are no numbers.
    """
    model, test = network_for(checkpoint, architecture, settings, observer, lambda data: data.test)
    result = evaluate(model, test, settings.precision)
    if not math.isfinite(result.loss):
        raise CheckpointError(f"the network's loss is {result.loss}: its weights hold or make infinities or NaNs")
    return result


def network_for(
    checkpoint: Checkpoint,
    architecture: str,
    settings: DataSettings,
    observer: Observer,
    part: Callable[[Dataset], Split],
) -> tuple[torch.nn.Module, Split]:
    """A checkpoint's network and the part of a data set that it is to see, both on the device.

    Raises:
        ArchitectureError: no such network, or the checkpoint does not fit it.
        DataError: the data set cannot be had.
    """
    device = distributed.join(choose_device(settings.device))
    known = Arguments(architecture, checkpoint, settings)
    split = part(_load(known, settings, observer)).to(device)
    observer.activity(f"measuring errors of {architecture}")
    model = _filled(architecture, known.complete(split), checkpoint).to(device)
    check_fit(model, split, architecture)
    choose_threads(settings.threads, model, one_image(split), observer)
    return model, split


def _lay_out(model: torch.nn.Module, images: Tensor) -> None:
    """Put channels last, for convolutions 1.7 times as fast, unless the network's own code cannot take that."""
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch has it so
    try:
        with torch.no_grad():
            model.eval()(images)
    except RuntimeError:
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # likewise


def check_fit(model: torch.nn.Module, split: Split, architecture: str) -> int:
    """Put one image through a network, to see that it takes images of this data and knows all of its classes.

    Returns:
        the number of classes that the network tells apart.

    Raises:
        ArchitectureError: it does not.
    """
    images = one_image(split)
    try:
        with torch.no_grad():
            logits = model.eval()(images)
    except Exception as error:  # the user's code may raise anything
        shape = tuple(images.shape[1:])
        raise ArchitectureError(f"{architecture} does not take images of shape {shape}: {first_line(error)}") from error
    if logits.ndim != 2 or logits.shape[1] < split.classes:
        raise ArchitectureError(f"{architecture} gives {tuple(logits.shape)} for one image, not (1, {split.classes})")
    return int(logits.shape[1])


def one_image(split: Split) -> Tensor:
    """The first image of a split, as a network takes it."""
    stored, _ = next(iter(split.batches([torch.zeros(1, dtype=torch.long)])))
    return split.preprocessing.test(stored)


def _load(known: Arguments, settings: DataSettings, observer: Observer) -> Dataset:
    assert settings.data is not None  # the settings have checked it
    form = ImageForm(
        crop=known.crop,
        usual=known.usual_crop,
        grayscale=known.grayscale,
        resize=known.resize,
        workers=settings.workers,
        cache=settings.cache,
        observer=observer,
    )
    observer.activity(f"loading {settings.data}")
    with distributed.first_goes_ahead():
        return datasets.load(settings.data, settings.data_dir, form)


def _teacher(checkpoint: Checkpoint, seen: Split, classes: int) -> torch.nn.Module:
    """A teacher's network, on the device of the images that it is to see, which tells as many classes apart."""
    architecture = architectures.architecture_of(checkpoint)
    made_with = Arguments(architecture, checkpoint, DataSettings()).complete(seen)
    model = _filled(architecture, made_with, checkpoint).to(one_image(seen).device)
    own = check_fit(model, seen, architecture)
    if own != classes:
        raise ArchitectureError(f"the teacher tells {own} classes apart, and the network {classes}")
    return model


def _cast(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The array in another dtype; what is not zero stays so, or it would count as pruned."""
    cast = array.astype(dtype, copy=False)
    vanished = (cast == 0) & (array != 0)
    if vanished.any():
        smallest = np.asarray(ml_dtypes.finfo(dtype).smallest_subnormal, dtype)
        cast[vanished] = np.where(array[vanished] < 0, -smallest, smallest)
    return cast


def _filled(architecture: str, made_with: Mapping[str, Any], checkpoint: Checkpoint | None) -> torch.nn.Module:
    model = architectures.build(architecture, made_with)
    if checkpoint is not None:
        architectures.load_into(model, checkpoint, architecture)
    return model
