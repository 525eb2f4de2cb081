"""A recipe: a YAML file that names a whole run. Its sections are the settings of the stages.

::

    name: lenet5-mnist
    data: mnist                # data, data_dir, cache, workers, device and seed hold for every section that knows them
    train: {architecture: lenet5, epochs: 20}
    prune: {sparsity: 0.92, epochs: 16}
    quantize: {conv_bits: 8, fc_bits: 5, epochs: 3}
    eval: {max_error: 0.9}
    report: {min_ratio: 39}

`train` may be replaced by `checkpoint: FILE`, with the `architecture` of the file if it does not say. `encode` always
runs; the other sections may be left out, or be null, which is the same. Paths count from the current folder.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from dcomp.errors import RecipeError
from dcomp.settings import (
    MAX_SEED,
    DataName,
    EncodeSettings,
    EvalSettings,
    PruneSettings,
    QuantizeSettings,
    ReportSettings,
    Settings,
    TrainSettings,
    mistakes,
)

SHARED_KEYS = ("architecture", "data", "data_dir", "cache", "workers", "device", "seed")


class Recipe(Settings):
    """A validated recipe; a section that is None is a stage that does not run."""

    name: str = Field(min_length=1, pattern=r"^\w[\w.+-]*$")
    architecture: str | None = None
    data: DataName | None = None
    data_dir: Path | None = None
    cache: Path | None = None
    workers: int | None = None
    device: str = "auto"
    seed: int = Field(0, ge=0, le=MAX_SEED)
    checkpoint: Path | None = None
    train: TrainSettings | None = None
    prune: PruneSettings | None = None
    quantize: QuantizeSettings | None = None
    encode: EncodeSettings = EncodeSettings()
    eval: EvalSettings | None = None
    report: ReportSettings = ReportSettings()

    @model_validator(mode="before")
    @classmethod
    def _share_keys(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        merged = {key: value for key, value in given.items() if value is not None}
        for section, field in cls.model_fields.items():
            settings = _settings_class(field.annotation)
            if settings is not None and isinstance(merged.get(section), dict):
                shared = {key: merged[key] for key in SHARED_KEYS if key in merged and key in settings.model_fields}
                merged[section] = shared | merged[section]
        return merged

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if (self.train is None) == (self.checkpoint is None):
            raise ValueError("give either a section train or a checkpoint to start from")
        return self

    @property
    def trusted_architecture(self) -> str | None:
        """The architecture that the recipe itself names; it may be the user's own code."""
        return self.train.architecture if self.train is not None else self.architecture


def _settings_class(annotation: Any) -> type[Settings] | None:
    options = [annotation, *getattr(annotation, "__args__", ())]
    return next((kind for kind in options if isinstance(kind, type) and issubclass(kind, Settings)), None)


class _UniqueKeys(yaml.SafeLoader):
    """The safe loader, which takes the last of two equal keys, made to refuse them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(None, None, f"{', '.join(twice)} occurs twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe; `overrides` are `key=value`, with dots between section and key.

    Raises:
        RecipeError: not readable, or mistakes, all of them in one message.
    """
    try:
        content = yaml.load(path.read_text(), _UniqueKeys)
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {path}: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"the recipe {path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"the recipe {path} is not a mapping of keys to values")
    for override in overrides:
        _override(content, override)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        found = [f"{key}: {what}" if key else what for key, what in mistakes(error)]
        if len(found) == 1:
            raise RecipeError(f"in the recipe {path}: {found[0]}") from error
        raise RecipeError("\n  ".join([f"the recipe {path} has {len(found)} mistakes:", *found])) from error


def _override(content: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not all(key.split(".")):
        raise RecipeError(f"--set {override}: write it as key=value, as in prune.sparsity=0.97")
    *sections, last = key.split(".")
    place = content
    for section in sections:
        if place.get(section) is None:
            place[section] = {}
        place = place[section]
        if not isinstance(place, dict):
            raise RecipeError(f"--set {override}: {section} is no section")
    try:
        place[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {override}: {text!r} is not a YAML value") from error
