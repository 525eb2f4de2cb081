"""Networks filled from checkpoints, their data, and the check that both fit together."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from dcomp.checkpoints import tensors
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.errors import DataError
from dcomp.learning import architectures, datasets, distributed
from dcomp.learning.architectures.arguments import Arguments
from dcomp.learning.datasets import ImageForm
from dcomp.learning.devices import choose_device, choose_threads
from dcomp.learning.examples import Examples
from dcomp.learning.task_data import TaskData
from dcomp.learning.trial import Trial
from dcomp.progress.observer import Observer
from dcomp.settings import DataSettings
from dcomp.settings.fields import TRANSFORMERS


def network_for(
    checkpoint: Checkpoint,
    architecture: str,
    settings: DataSettings,
    observer: Observer,
    part: Callable[[TaskData], Examples],
) -> tuple[nn.Module, Examples]:
    """Return a checkpoint's network and a part of the examples, both on the device.

    Args:
        checkpoint: fills the network.
        architecture: of the network.
        settings: name the data and the device.
        observer: watches.
        part: takes the part from the data.

    Raises:
        ArchitectureError: no such network, or the checkpoint does not fit it.
        DataError: the data cannot be loaded, or do not fit the network.
    """
    device = distributed.join(choose_device(settings.device))
    arguments = Arguments(architecture, checkpoint, settings)
    examples = part(load_data(arguments, settings, observer)).to(device)
    observer.activity(f"measuring errors of {architecture}")
    model = filled(architecture, arguments.complete(examples.form), checkpoint).to(device)
    trial = Trial(model, examples)
    trial.check(architecture)
    choose_threads(settings.threads, trial, observer)
    return model, examples


def teacher_for(
    checkpoint: Checkpoint, examples: Examples, device: torch.device, learner: str, *, trusted: bool
) -> nn.Module:
    """Return a teacher's network.

    Args:
        checkpoint: the teacher's.
        examples: that both networks see.
        device: of the networks.
        learner: architecture of the network that learns; the teacher may be of the same code.
        trusted: whether a person trusts other code too.

    Raises:
        ArchitectureError: it does not take the examples, or is of code that nobody agreed to run.
    """
    architecture = architectures.architecture_of(checkpoint, trusted=trusted, agreed=[learner])
    arguments = Arguments(architecture, checkpoint, DataSettings()).complete(examples.form)
    model = filled(architecture, arguments, checkpoint).to(device)
    Trial(model, examples).check(architecture)
    return model


def filled(architecture: str, arguments: Mapping[str, Any], checkpoint: Checkpoint | None) -> nn.Module:
    """Build a network, and fill it from a checkpoint if there is one.

    Raises:
        ArchitectureError: no such network, or the checkpoint does not fit it.
    """
    if checkpoint is not None and architecture.startswith(TRANSFORMERS):  # whose config may ask for any size
        shapes = {name: spec.shape for name, spec in tensors.specs_of(checkpoint.tensors).items()}
        architectures.check_shapes(architectures.outline_of(architecture, arguments), shapes, architecture)
    model = architectures.build(architecture, arguments)
    if checkpoint is not None:
        architectures.load_into(model, checkpoint, architecture)
    return model


def load_data(arguments: Arguments, settings: DataSettings, observer: Observer) -> TaskData:
    """Load the data that the settings name; images are as the network takes them.

    Raises:
        DataError: they cannot be loaded.
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
        return TaskData.of(datasets.load(settings.data, settings.data_dir, form), settings.data, settings)


def lay_out(trial: Trial) -> None:
    """Put channels last, for convolutions 1.7 times as fast, unless the network's code cannot take that."""
    try:
        trial.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch has it so
        trial.run()
    except (RuntimeError, DataError):  # the latter from a task of the user
        trial.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # likewise
