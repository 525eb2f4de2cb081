"""What can be known of a recipe before its first stage runs: files, devices, data sets, networks and their layers.

All of its mistakes are told at once, so that none shows after hours of training. What a data set holds is known later.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from dcomp import layers, prefixes
from dcomp.checkpoint import Checkpoint
from dcomp.compression.choice import Choice, Network
from dcomp.errors import CheckpointError, DcompError, RecipeError
from dcomp.recipe import Recipe
from dcomp.settings import DataSettings, PruneSettings, QuantizeSettings
from dcomp.tensors import specs_of

CHECKPOINTS = ("distill", "rewind")
"""Settings that name a checkpoint besides the one that a stage is given."""

Weights = dict[str, np.ndarray]


def check(recipe: Recipe, start: Checkpoint | None) -> None:
    """Look for mistakes in a recipe, beyond those that its reader finds.

    Args:
        recipe: validated.
        start: what it starts from, if not from training.

    Raises:
        DcompError: there is one, or a RecipeError with all of several.
    """
    found: list[DcompError] = []
    looks: list[Callable[[], object]] = [*_files(recipe), *_learning(recipe), partial(_check_layers, recipe, start)]
    for look in looks:
        try:
            look()
        except DcompError as error:
            found += [] if str(error) in map(str, found) else [error]
    if len(found) == 1:
        raise found[0]
    if found:
        raise RecipeError("\n  ".join([f"the recipe has {len(found)} mistakes:", *map(str, found)]))


def _files(recipe: Recipe) -> Iterator[Callable[[], object]]:
    """The checkpoints that sections name, which may be stages before."""
    before: set[str] = set()
    for stage, section in recipe.sections:
        for key in CHECKPOINTS:
            path = getattr(section, key, None)
            if path is not None and str(path) not in before:
                yield partial(_check_file, f"{stage}.{key}", path)
        before.add(stage)


def _check_file(key: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(f"{key}: no stage before has this name, and cannot read {path}: {what}") from error


def _learning(recipe: Recipe) -> Iterator[Callable[[], object]]:
    """The devices, data sets and folders of all sections that learn or judge."""
    sections: list[DataSettings] = [section for _, section in recipe.sections if section.epochs]
    sections += [recipe.eval] if recipe.eval is not None else []
    if not sections:
        return
    from dcomp.learning import datasets
    from dcomp.learning.devices import choose_device

    for section in sections:
        yield partial(choose_device, section.device)
        if section.data is not None:
            yield partial(datasets.check, section.data, section.data_dir)


def _check_layers(recipe: Recipe, start: Checkpoint | None) -> None:
    """Hold the names and rules of all sections against the layers that the network has."""
    if recipe.train is not None:
        weights, network = _of_network(recipe)
    elif start is not None and prefixes.common(start.tensors) is None:
        weights = {
            name: np.broadcast_to(np.zeros((), spec.dtype), spec.shape)
            for name, spec in specs_of(start.tensors).items()
        }
        network = {name: name for name in weights}
    else:
        return
    for _, section in recipe.sections:
        if isinstance(section, PruneSettings):
            choice = Choice(weights, section.kinds, section, "weights", network)
            if section.structure == "row":
                choice.leave_output_out(weights)
            choice.values()
        elif isinstance(section, QuantizeSettings):
            kinds = dict.fromkeys([*layers.WEIGHTS, *section.bits_of_kind])
            Choice(weights, tuple(kinds), section, "tensor to quantize", network).values()


def _of_network(recipe: Recipe) -> tuple[Weights, Network]:
    """The shapes of the network that a recipe trains, as arrays that take no memory."""
    from dcomp.learning.architectures import outline_of, parameters_of
    from dcomp.learning.architectures.arguments import Arguments

    assert recipe.train is not None  # who asks has looked
    name = recipe.train.architecture
    model = outline_of(name, Arguments(name, None, recipe.train).known)
    state = model.state_dict()
    zero = np.zeros((), np.float32)
    floats = {name: np.broadcast_to(zero, tensor.shape) for name, tensor in state.items() if tensor.is_floating_point()}
    return floats, parameters_of(model)
