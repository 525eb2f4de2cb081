"""Checks of a recipe before its first stage runs: files, devices, data sets, networks and their layers.

All mistakes are reported at once, before hours of training. The content of a data set is not checked.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from dcomp import sources
from dcomp.checkpoints import layers, prefixes
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.checkpoints.tensors import specs_of
from dcomp.compression.choice import Choice, ParameterNames
from dcomp.compression.pruning import criterion_of
from dcomp.errors import CheckpointError, DcompError, RecipeError, UsageError, several
from dcomp.progress.measurement import METRICS
from dcomp.settings import DataSettings, LearningSettings, PruneSettings, QuantizeSettings, Settings
from dcomp.settings.fields import names_code
from dcomp.settings.recipe import Recipe

NO_FILES: Mapping[str, Path] = {}

NetworkLayers = tuple[dict[str, np.ndarray], ParameterNames]
"""Arrays with the shapes of a network's weights, which take no memory, and its parameters' names."""


def check(
    recipe: Recipe, start: Checkpoint | None, last: str | None = None, outputs: Mapping[str, Path] = NO_FILES
) -> None:
    """Check a recipe for mistakes that validation cannot find.

    Args:
        recipe: validated.
        start: the checkpoint that the recipe starts from; None if it starts with training.
        last: the last stage to check; by default all are checked.
        outputs: the file that each stage writes; later stages may read it.

    Raises:
        DcompError: a mistake; several are one RecipeError.
    """
    stages = [stage for stage, _ in recipe.sections]
    sections = recipe.sections[: stages.index(last) + 1 if last is not None else None]
    with_network: list[DataSettings] = [section for _, section in sections if section.epochs]
    with_network += [recipe.eval] if recipe.eval is not None else []
    checks = [*_file_checks(sections, outputs), *_learning_checks(with_network)]
    if recipe.eval is not None and recipe.eval.data is not None and not names_code(recipe.eval.data):
        checks.append(partial(recipe.eval.check_bounded, METRICS))
    if start is not None and with_network:
        checks.append(partial(_check_start, start, recipe.trusted_architecture, with_network[0]))
    mistakes = _mistakes(checks)
    try:
        network_layers = _layers_of(recipe, start)
    except DcompError as error:
        mistakes.append(error)
    else:
        if network_layers is not None:
            mistakes += _mistakes(partial(_check_section, *section, network_layers) for section in sections)
    if len(mistakes) == 1:
        raise mistakes[0]
    if mistakes:
        raise RecipeError(several("the recipe", mistakes))


def _mistakes(checks: Iterable[Callable[[], object]]) -> list[DcompError]:
    """Return the errors that checks raise, each message once."""
    mistakes: dict[str, DcompError] = {}
    for run_check in checks:
        try:
            run_check()
        except DcompError as error:
            mistakes.setdefault(str(error), error)
    return list(mistakes.values())


def _file_checks(
    sections: Sequence[tuple[str, Settings]], outputs: Mapping[str, Path]
) -> Iterator[Callable[[], object]]:
    """Check the checkpoints that sections name, except for earlier stages and their outputs."""
    before: set[str | Path] = set()
    for stage, section in sections:
        for key, path in section.named_checkpoints().items():
            if not {str(path), path.absolute()} & before:
                yield partial(_check_file, f"{stage}.{key}", path)
        before.add(stage)
        if stage in outputs:
            before.add(outputs[stage].absolute())


def _check_file(key: str, path: Path) -> None:
    try:
        sources.check_openable(path)
    except (CheckpointError, UsageError) as error:
        raise CheckpointError(f"{key}: no earlier stage has this name, and {error}") from error


def _learning_checks(sections: Sequence[DataSettings]) -> Iterator[Callable[[], object]]:
    """Check the devices, data sets and folders of sections that train or evaluate."""
    if not sections:
        return
    from dcomp.learning import datasets, optimizers
    from dcomp.learning.devices import choose_device

    for section in sections:
        yield partial(choose_device, section.device)
        if section.data is not None:
            yield partial(datasets.check, section.data, section.data_dir)
        if isinstance(section, LearningSettings):
            yield partial(optimizers.check, section)


def _check_start(start: Checkpoint, architecture: str | None, settings: DataSettings) -> None:
    """Compare the names and shapes of the first checkpoint with its network, except for sizes that depend on the data.

    Raises:
        ArchitectureError: no such network, or the checkpoint does not fit it.
    """
    from dcomp.learning.architectures import architecture_of, check_shapes, outline_of
    from dcomp.learning.architectures.arguments import Arguments

    name = architecture_of(start, architecture, trusted=settings.trust_code)
    arguments = Arguments(name, start, settings)
    model = outline_of(name, arguments.explicit)
    tensors = prefixes.fitted(start, model.state_dict()).tensors
    shapes = {tensor: spec.shape for tensor, spec in specs_of(tensors).items()}
    check_shapes(model, shapes, name, exact=not arguments.depend_on_data)


def _check_section(stage: str, section: Settings, network_layers: NetworkLayers) -> None:
    """Compare the names and rules of a section with the layers of the network."""
    weights, network = network_layers
    try:
        if isinstance(section, LearningSettings) and section.freeze:
            from dcomp.learning.freezing import check_match

            check_match(section.freeze, list(weights))
        if isinstance(section, PruneSettings):
            criterion_of(section)
            choice = Choice(weights, section.kinds, section, "weights", network)
            if section.structure == "row":
                choice.leave_out_output(weights)
            choice.values()
        elif isinstance(section, QuantizeSettings):
            kinds = dict.fromkeys([*layers.WEIGHTS, *section.bits_of_kind])
            Choice(weights, tuple(kinds), section, "tensor to quantize", network).values()
    except UsageError as error:
        raise RecipeError(f"{stage}: {error}") from error


def _layers_of(recipe: Recipe, start: Checkpoint | None) -> NetworkLayers | None:
    """Return the weights that sections may change; None if their names need a network of the user."""
    if recipe.train is not None:
        return _layers_of_network(recipe)
    if start is None or prefixes.common(start.tensors) is not None:
        return None
    specs = specs_of(start.tensors).items()
    weights = {name: np.broadcast_to(np.zeros((), spec.dtype), spec.shape) for name, spec in specs}
    return weights, {name: name for name in weights}


def _layers_of_network(recipe: Recipe) -> NetworkLayers:
    """Return the weights of the network that a recipe trains."""
    from dcomp.learning.architectures import outline_of, parameters_of
    from dcomp.learning.architectures.arguments import Arguments

    assert recipe.train is not None  # only called where the recipe trains
    name = recipe.train.architecture
    model = outline_of(name, Arguments(name, None, recipe.train).explicit)
    state = model.state_dict()
    zero = np.zeros((), np.float32)
    floats = {name: np.broadcast_to(zero, tensor.shape) for name, tensor in state.items() if tensor.is_floating_point()}
    return floats, parameters_of(model)
