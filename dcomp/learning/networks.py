"""Networks filled from checkpoints, their data, and the check that both fit together."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.errors import ArchitectureError, first_line
from dcomp.learning import architectures, datasets, distributed
from dcomp.learning.architectures.arguments import Arguments
from dcomp.learning.datasets import Dataset, ImageForm, Split
from dcomp.learning.devices import choose_device, choose_threads
from dcomp.progress.observer import Observer
from dcomp.settings import DataSettings


def network_for(
    checkpoint: Checkpoint,
    architecture: str,
    settings: DataSettings,
    observer: Observer,
    part: Callable[[Dataset], Split],
) -> tuple[nn.Module, Split]:
    """Return a checkpoint's network and a part of a data set, both on the device.

    Args:
        checkpoint: fills the network.
        architecture: of the network.
        settings: name the data set and the device.
        observer: watches.
        part: takes the part from the data set.

    Raises:
        ArchitectureError: no such network, or the checkpoint does not fit it.
        DataError: the data set cannot be loaded.
    """
    device = distributed.join(choose_device(settings.device))
    arguments = Arguments(architecture, checkpoint, settings)
    split = part(load_data(arguments, settings, observer)).to(device)
    observer.activity(f"measuring errors of {architecture}")
    model = filled(architecture, arguments.complete(split), checkpoint).to(device)
    check_fit(model, split, architecture)
    choose_threads(settings.threads, model, one_image(split), observer)
    return model, split


def teacher_for(checkpoint: Checkpoint, split: Split, classes: int, learner: str, *, trusted: bool) -> nn.Module:
    """Return a teacher's network, on the device of the images that it will see.

    Args:
        checkpoint: the teacher's.
        split: has the images.
        classes: of the network that learns.
        learner: architecture of the network that learns; the teacher may be of the same code.
        trusted: whether a person trusts other code too.

    Raises:
        ArchitectureError: it has another number of classes, or is of code that nobody agreed to run.
    """
    architecture = architectures.architecture_of(checkpoint, trusted=trusted, agreed=[learner])
    arguments = Arguments(architecture, checkpoint, DataSettings()).complete(split)
    model = filled(architecture, arguments, checkpoint).to(one_image(split).device)
    teacher_classes = check_fit(model, split, architecture)
    if teacher_classes != classes:
        raise ArchitectureError(f"the teacher has {teacher_classes} classes, and the network {classes}")
    return model


def filled(architecture: str, arguments: Mapping[str, Any], checkpoint: Checkpoint | None) -> nn.Module:
    """Build a network, and fill it from a checkpoint if there is one.

    Raises:
        ArchitectureError: no such network, or the checkpoint does not fit it.
    """
    model = architectures.build(architecture, arguments)
    if checkpoint is not None:
        architectures.load_into(model, checkpoint, architecture)
    return model


def load_data(arguments: Arguments, settings: DataSettings, observer: Observer) -> Dataset:
    """Load the data set that the settings name, with images as the network takes them.

    Raises:
        DataError: it cannot be loaded.
    """
    assert settings.data is not None  # the stage has checked it
    form = ImageForm(
        crop=arguments.crop,
        usual=arguments.usual_crop,
        grayscale=arguments.grayscale,
        resize=arguments.resize,
        workers=settings.workers,
        cache=settings.cache,
        observer=observer,
    )
    observer.activity(f"loading {settings.data}")
    with distributed.first_goes_ahead():
        return datasets.load(settings.data, settings.data_dir, form)


def lay_out(model: nn.Module, images: Tensor) -> None:
    """Put channels last, for convolutions 1.7 times as fast, unless the network's code cannot take that."""
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch has it so
    try:
        with torch.no_grad():
            model.eval()(images)
    except RuntimeError:
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # likewise


def check_fit(model: nn.Module, split: Split, architecture: str) -> int:
    """Put one image through a network, to check that it takes the images of a data set and has all of its classes.

    Returns:
        the number of the network's classes.

    Raises:
        ArchitectureError: it does not take them, or has too few classes.
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
    """Return the first image of a split, as a network takes it; shape (1, channels, size, size)."""
    stored, _ = next(iter(split.batches([torch.zeros(1, dtype=torch.long)])))
    return split.preprocessing.test(stored)
