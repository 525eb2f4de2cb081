"""What can be known of a recipe before its first stage runs: files, devices, data sets, networks and their layers.

All of its mistakes are told at once, so that none shows after hours of training. What a data set holds is known later.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from dcomp.checkpoints import layers, prefixes
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.compression.choice import Choice, ParameterNames
from dcomp.errors import CheckpointError, DcompError, RecipeError, UsageError
from dcomp.settings.recipe import Recipe
from dcomp.settings import DataSettings, PruneSettings, QuantizeSettings, Settings
from dcomp.checkpoints.tensors import specs_of

CHECKPOINTS = ("distill", "rewind")
"""Settings that name a checkpoint besides the one that a stage is given."""

NO_FILES: Mapping[str, Path] = {}

NetworkLayers = tuple[dict[str, np.ndarray], ParameterNames]
"""Arrays of the shapes of a network's weights, that take no memory, and what it says of their names."""


def check(
    recipe: Recipe, start: Checkpoint | None, last: str | None = None, files: Mapping[str, Path] = NO_FILES
) -> None:
    """Look for mistakes in a recipe, beyond those that its reader finds.

    Args:
        recipe: validated.
        start: what it starts from, if not from training.
        last: the stage after which no others are looked at; all are unless given.
        files: what each stage writes, which stages after it may read.

    Raises:
        DcompError: there is one, or a RecipeError with all of several.
    """
    stages = [stage for stage, _ in recipe.sections]
    sections = recipe.sections[: stages.index(last) + 1 if last is not None else None]
    learning = [section for _, section in sections if section.epochs]
    judges = [recipe.eval] if recipe.eval is not None else []
    mistakes = _mistakes([*_files(sections, files), *_learning([*learning, *judges])])
    if start is not None and (needed := [*learning, *judges]):
        mistakes += _mistakes([partial(_check_start, start, recipe.trusted_architecture, needed[0])])
    try:
        outline = _outline(recipe, start)
    except DcompError as error:
        mistakes.append(error)
    else:
        if outline is not None:
            mistakes += _mistakes(partial(_check_section, *section, outline) for section in sections)
    if len(mistakes) == 1:
        raise mistakes[0]
    if mistakes:
        raise RecipeError("\n  ".join([f"the recipe has {len(mistakes)} mistakes:", *map(str, mistakes)]))


def _mistakes(looks: Iterable[Callable[[], object]]) -> list[DcompError]:
    """What the looks raise; what several say is told once."""
    mistakes: dict[str, DcompError] = {}
    for look in looks:
        try:
            look()
        except DcompError as error:
            mistakes.setdefault(str(error), error)
    return list(mistakes.values())


def _files(sections: Sequence[tuple[str, Settings]], files: Mapping[str, Path]) -> Iterator[Callable[[], object]]:
    """The checkpoints that sections name, which may be stages before, or what those write."""
    before: set[str | Path] = set()
    for stage, section in sections:
        for key in CHECKPOINTS:
            path = getattr(section, key, None)
            if path is not None and not {str(path), path.absolute()} & before:
                yield partial(_check_file, f"{stage}.{key}", path)
        before.add(stage)
        if stage in files:
            before.add(files[stage].absolute())


def _check_file(key: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(f"{key}: no stage before has this name, and cannot read {path}: {what}") from error


def _learning(sections: Sequence[DataSettings]) -> Iterator[Callable[[], object]]:
    """The devices, data sets and folders of sections that learn or judge."""
    if not sections:
        return
    from dcomp.learning import datasets
    from dcomp.learning.devices import choose_device

    for section in sections:
        yield partial(choose_device, section.device)
        if section.data is not None:
            yield partial(datasets.check, section.data, section.data_dir)


def _check_start(start: Checkpoint, architecture: str | None, settings: DataSettings) -> None:
    """Hold the names and shapes of the first checkpoint against its network, as far as that is known before its data.

    Raises:
        ArchitectureError: no such network, or the checkpoint does not fit it.
    """
    from dcomp.learning.architectures import architecture_of, check_shapes, outline_of
    from dcomp.learning.architectures.arguments import Arguments

    name = architecture_of(start, architecture)
    arguments = Arguments(name, start, settings)
    model = outline_of(name, arguments.known)
    tensors = prefixes.fitted(start, model.state_dict()).tensors
    shapes = {tensor: spec.shape for tensor, spec in specs_of(tensors).items()}
    check_shapes(model, shapes, name, exact=not arguments.depend_on_data)


def _check_section(stage: str, section: Settings, outline: NetworkLayers) -> None:
    """Hold the names and rules of a section against the layers that the network has."""
    weights, network = outline
    try:
        if isinstance(section, PruneSettings):
            choice = Choice(weights, section.kinds, section, "weights", network)
            if section.structure == "row":
                choice.leave_output_out(weights)
            choice.values()
        elif isinstance(section, QuantizeSettings):
            kinds = dict.fromkeys([*layers.WEIGHTS, *section.bits_of_kind])
            Choice(weights, tuple(kinds), section, "tensor to quantize", network).values()
    except UsageError as error:
        raise RecipeError(f"{stage}: {error}") from error


def _outline(recipe: Recipe, start: Checkpoint | None) -> NetworkLayers | None:
    """The weights that all sections are given; None if they are known only once a network has been made for them."""
    if recipe.train is not None:
        return _of_network(recipe)
    if start is None or prefixes.common(start.tensors) is not None:
        return None
    specs = specs_of(start.tensors).items()
    weights = {name: np.broadcast_to(np.zeros((), spec.dtype), spec.shape) for name, spec in specs}
    return weights, {name: name for name in weights}


def _of_network(recipe: Recipe) -> NetworkLayers:
    """The shapes of the network that a recipe trains, as arrays that take no memory."""
    from dcomp.learning.architectures import outline_of, parameters_of
    from dcomp.learning.architectures.arguments import Arguments

    assert recipe.train is not None  # only called where the recipe trains
    name = recipe.train.architecture
    model = outline_of(name, Arguments(name, None, recipe.train).known)
    state = model.state_dict()
    zero = np.zeros((), np.float32)
    floats = {name: np.broadcast_to(zero, tensor.shape) for name, tensor in state.items() if tensor.is_floating_point()}
    return floats, parameters_of(model)
