"""A recipe: a YAML file that names a whole run. Its sections are the settings of the stages.

::

    name: lenet5-mnist
    data: mnist       # like data_dir, resize, cache, workers, threads, device, seed, provenance, trust_code: for all
    train: {architecture: lenet5, epochs: 20}
    prune: {sparsity: 0.92, epochs: 16}
    quantize: {conv_bits: 8, fc_bits: 5, epochs: 3}
    eval: {max_error: 0.9}
    report: {min_ratio: 39}

The stages run in the order train, prune, finetune, quantize. `prune`, `finetune` and `quantize` may be lists of
sections, which run in order, each from the checkpoint of the one before::

    quantize:
      - {conv_bits: 8, epochs: 2}
      - {fc_bits: 5, epochs: 3}

If only `train` names a data set, all sections use it. `checkpoint: FILE` may replace `train`; give the `architecture`
and the `data` as well if the file does not record them, or `trust_code: true` if it records code of yours. `encode`
always runs; other sections may be left out, or be null, which is the same. `plan: FILE` gives the rules of a plan,
which `dcomp sensitivity` writes, to the sections prune and quantize. Paths are relative to the current folder, and `~`
is the home folder; `distill`, `rewind` and `mask` may also name an earlier stage, as in `distill: train`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from dcomp.errors import RecipeError, several
from dcomp.settings import (
    MAX_SEED,
    DataName,
    EncodeSettings,
    EvalSettings,
    FinetuneSettings,
    PruneSettings,
    QuantizeSettings,
    ReportSettings,
    Settings,
    TrainSettings,
    mistakes,
)
from dcomp.settings.base import Section, settings_class
from dcomp.settings.fields import NetworkName, Provenance, UserPath
from dcomp.settings.yaml_files import load_mapping, parsed


def _in_a_list(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


PruneSections = Annotated[tuple[PruneSettings, ...], BeforeValidator(_in_a_list)]
FinetuneSections = Annotated[tuple[FinetuneSettings, ...], BeforeValidator(_in_a_list)]
QuantizeSections = Annotated[tuple[QuantizeSettings, ...], BeforeValidator(_in_a_list)]

AnySection = TypeVar("AnySection", PruneSettings, FinetuneSettings, QuantizeSettings, EvalSettings)

StageSettings = TrainSettings | PruneSettings | FinetuneSettings | QuantizeSettings

STAGES = ("train", "prune", "finetune", "quantize")
"""The sections that write checkpoints, in the order in which they run."""

SHARED_KEYS = (
    *("architecture", "data", "data_dir", "resize", "cache", "workers", "threads", "device", "plan", "seed"),
    *("provenance", "trust_code"),
)


class Recipe(Settings):
    """A validated recipe; a stage whose section is None or an empty list does not run."""

    name: str = Field(min_length=1, pattern=r"^\w[\w.+-]*$")
    architecture: NetworkName | None = None
    data: DataName | None = None
    data_dir: UserPath | None = None
    resize: int | None = None
    cache: UserPath | None = None
    workers: int | None = None
    threads: int | None = None
    device: str = "auto"
    seed: int = Field(0, ge=0, le=MAX_SEED)
    provenance: Provenance = "full"
    trust_code: bool = False
    checkpoint: UserPath | None = None
    plan: UserPath | None = None
    train: TrainSettings | None = None
    prune: PruneSections = ()
    finetune: FinetuneSections = ()
    quantize: QuantizeSections = ()
    encode: EncodeSettings = EncodeSettings()
    eval: EvalSettings | None = None
    report: ReportSettings = ReportSettings()

    @model_validator(mode="before")
    @classmethod
    def _share_keys(cls, written: Any) -> Any:
        if not isinstance(written, dict):
            return written
        merged = {key: value for key, value in written.items() if value is not None}
        train = merged.get("train")
        if isinstance(train, dict) and train.get("data") is not None:
            merged.setdefault("data", train["data"])
        for section, field in cls.model_fields.items():
            settings, value = settings_class(field.annotation), merged.get(section)
            if settings is None:
                continue
            shared = {key: merged[key] for key in SHARED_KEYS if key in merged and key in settings.model_fields}
            if isinstance(value, dict):
                merged[section] = _section(value, shared)
            elif isinstance(value, list):
                merged[section] = [_section(item, shared) if isinstance(item, dict) else item for item in value]
        return merged

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if (self.train is None) == (self.checkpoint is None):
            raise ValueError("give either a section train or a checkpoint to start from")
        if self.train is not None and self.train.data is None:
            raise ValueError("training needs data: name a data set in data, like mnist")
        return self

    @property
    def sections(self) -> list[tuple[str, StageSettings]]:
        """Return the name and settings of each stage that writes a checkpoint, in order.

        The first of several sections has no number, so that it stays done if a user adds a second one.
        """
        train = () if self.train is None else (self.train,)
        groups: list[Sequence[StageSettings]] = [train, self.prune, self.finetune, self.quantize]
        return [
            (_numbered(stage, number), section)
            for stage, group in zip(STAGES, groups, strict=True)
            for number, section in enumerate(group, 1)
        ]

    @property
    def trains(self) -> bool:
        """Return whether any section has epochs."""
        return any(section.epochs for _, section in self.sections)

    @property
    def lacks_data(self) -> bool:
        """Return whether a section that trains or measures names no data set."""
        learning = [section for _, section in self.sections if section.epochs]
        return any(section.data is None for section in (*learning, *([self.eval] if self.eval is not None else [])))

    def with_data(self, data: DataName) -> "Recipe":
        """Return the recipe with a data set for the sections that lack one."""

        def filled(section: AnySection) -> AnySection:
            return section if section.data is not None else section.model_copy(update={"data": data})

        prune = tuple(filled(section) if section.epochs else section for section in self.prune)
        finetune = tuple(filled(section) for section in self.finetune)
        quantize = tuple(filled(section) if section.epochs else section for section in self.quantize)
        evaluation = filled(self.eval) if self.eval is not None else None
        return self.model_copy(update={"prune": prune, "finetune": finetune, "quantize": quantize, "eval": evaluation})

    @property
    def trusted_architecture(self) -> str | None:
        """Return the architecture that the recipe names; it may be code of the user."""
        return self.train.architecture if self.train is not None else self.architecture


def _section(written: dict[str, Any], shared: dict[str, Any]) -> Section:
    return Section(written, shared, written.overridden if isinstance(written, Section) else ())


def _numbered(stage: str, number: int) -> str:
    return stage if number == 1 else f"{stage}.{number}"


def load(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe; `overrides` are `key=value`, with dots between section and key.

    Raises:
        RecipeError: the file cannot be read, or has mistakes, all of them in one message.
    """
    content = load_mapping(path, "recipe")
    _check_place_of_finetune(path, content)
    for override in overrides:
        _override(content, override)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        lists = [section for section, value in content.items() if isinstance(value, list)]
        lines = [f"{key}: {problem}" if key else problem for key, problem in mistakes(error, lists, Recipe)]
        if len(lines) == 1:
            raise RecipeError(f"in the recipe {path}: {lines[0]}") from error
        raise RecipeError(several(f"the recipe {path}", lines)) from error


def _check_place_of_finetune(path: Path, content: dict[str, Any]) -> None:
    """Raise RecipeError unless finetune stands where it runs: between prune and quantize."""
    written = [key for key in content if key in STAGES and content[key] not in (None, [])]
    if "finetune" in written and written != sorted(written, key=STAGES.index):
        raise RecipeError(f"in the recipe {path}: finetune runs after prune and before quantize: write it there")


def split_override(override: str) -> tuple[str, str]:
    """Split an override into its dotted key and the text of its value.

    Raises:
        RecipeError: it is not `key=value`.
    """
    path, separator, text = override.partition("=")
    if not separator or not all(path.split(".")):
        raise RecipeError(f"--set {override}: write it as key=value, as in prune.sparsity=0.97")
    return path, text


def _override(content: dict[str, Any], override: str) -> None:
    path, text = split_override(override)
    *sections, last = path.split(".")
    place: Any = content
    for section in sections:
        key = _key_in(place, section, override)
        if isinstance(place, dict) and place.get(key) is None:
            place[key] = {}
        if isinstance(place[key], dict) and not isinstance(place[key], Section):
            place[key] = Section(place[key], {})
        place = place[key]
        if not isinstance(place, dict | list):
            raise RecipeError(f"--set {override}: {section} is not a section")
    try:
        place[_key_in(place, last, override)] = parsed(text)
    except ValueError as error:
        raise RecipeError(f"--set {override}: it is not a YAML value: {error}") from error
    if isinstance(place, Section):
        place.overridden.add(last)


def _key_in(place: dict[str, Any] | list[Any], name: str, override: str) -> Any:
    """Return the key that part of a path names, or the index in a list; a path counts from 1."""
    if isinstance(place, dict):
        return name
    numbers = {str(number): number - 1 for number in range(1, len(place) + 1)}
    if name in numbers:
        return numbers[name]
    raise RecipeError(f"--set {override}: this is a list, so {name} should be a number from 1 to {len(place)}")
