"""What a person may set, stage by stage.

Options and recipe keys have their meaning, default and limits here and nowhere else: the command line makes its
options from these classes, a recipe its sections.
"""

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from dcomp import plan as plan_file
from dcomp.errors import UsageError
from dcomp.layers import Kind, Rule
from dcomp.pruning.schedule import Schedule, ScheduleName
from dcomp.quantization import MAX_BITS, Init


def _parses_as_rules(texts: tuple[str, ...]) -> tuple[str, ...]:
    try:
        for text in texts:
            Rule.parse(text)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return texts


def _rules_of_plan(stage: plan_file.Stage) -> Callable[[object], object]:
    """A validator that reads a plan's path into its rules for a stage, so that settings hold what the plan says."""

    def read(value: object) -> object:
        try:
            return plan_file.rules(Path(value), stage) if isinstance(value, str | Path) else value
        except UsageError as error:
            raise ValueError(str(error)) from error

    return read


def _numbers(value: object) -> object:
    """Numbers between commas; `none` is no number."""
    return tuple(value.split(",") if value != "none" else ()) if isinstance(value, str) else value


def _ascending(numbers: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(sorted(set(numbers)))


def _split_at_commas(value: object) -> object:
    return tuple(value.split(",")) if isinstance(value, str) else value


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str | int | float) else value


def _compiles(patterns: tuple[str, ...]) -> tuple[str, ...]:
    try:
        for pattern in patterns:
            re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    return patterns


def _names_data(name: str) -> str:
    if name in DATA_NAMES or re.fullmatch(r"imagefolder:.+|(?!image)[\w.]+:\w+", name):
        return name
    raise ValueError(f"there is no data set {name!r}; there are {', '.join(DATA_NAMES)}")


MAX_SEED = (1 << 63) - 1

DATA_NAMES = (
    *("mnist", "fashion-mnist", "cifar10", "cifar100", "digits"),
    *("imagenette", "imagenette:320px", "imagenette:160px", "imagefolder:PATH", "package.module:factory"),
)
"""Data sets, and the forms of those that a person has."""

NETWORKS = ("lenet300", "lenet5", "alexnet", "vgg16", "vgg16-cifar", "torchvision:NAME", "package.module:factory")
"""Networks, and the forms of others."""

WITHOUT_EFFECT = {"data_dir", "device", "cache", "workers", "compile"}
"""Settings that change how a stage is run and not what comes out (but for rounding)."""

Bits = Annotated[int, Field(ge=1, le=MAX_BITS)]
Rules = Annotated[tuple[str, ...], BeforeValidator(_one_or_more), AfterValidator(_parses_as_rules)]
Patterns = Annotated[tuple[str, ...], BeforeValidator(_one_or_more), AfterValidator(_compiles)]
PrunePlan = Annotated[Rules, BeforeValidator(_rules_of_plan("prune"))]
QuantizePlan = Annotated[Rules, BeforeValidator(_rules_of_plan("quantize"))]
Sparsities = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1)], ...], BeforeValidator(_numbers), AfterValidator(_ascending)
]
BitCounts = Annotated[tuple[Bits, ...], BeforeValidator(_numbers), AfterValidator(_ascending)]
Kinds = Annotated[tuple[Kind, ...], BeforeValidator(_split_at_commas), Field(min_length=1)]
Epoch = Annotated[float, Field(ge=0)]
Epochs = Annotated[tuple[Epoch, ...], BeforeValidator(_one_or_more), BeforeValidator(_split_at_commas)]
FileName = Annotated[Path, PlainSerializer(lambda path: path.name)]  # where it lay is the machine's affair
LevelName = Literal["fast", "default", "max"]
DataName = Annotated[str, AfterValidator(_names_data)]
Optimizer = Literal["sgd", "adam", "adamw"]
LrSchedule = Literal["constant", "step", "cosine", "one-cycle", "plateau"]
Precision = Literal["fp32", "bf16"]
Augment = Literal["auto", "none", "shift", "crop-flip"]
Criterion = Literal["magnitude", "std", "random"]
Scope = Literal["global", "layer"]
Structure = Literal["weight", "row"]
Unit = Literal["sparsity", "count", "amount", "threshold"]

UNITS: tuple[Unit, ...] = get_args(Unit)
LAYER_LIMITS: dict[Unit, tuple[Callable[[float], bool], str]] = {
    "sparsity": (lambda value: 0 <= value <= 1, "the sparsity of a layer lies between 0 and 1"),
    "count": (lambda value: value >= 0 and value == int(value), "the count of a layer is a whole number"),
    "amount": (lambda value: 0 <= value < 1, "the amount of a layer lies from 0 to below 1"),
    "threshold": (lambda value: value > 0, "the threshold of a layer lies above 0"),
}
"""What a rule may ask for a layer, by unit."""


class Settings(BaseModel):
    """Base of all settings: unknown keys are mistakes, values do not change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def from_options(cls, **options: Any) -> Self:
        """Validate command-line options; those that are None or empty lists were not given.

        Raises:
            UsageError: all mistakes, by option.
        """
        given = {key: value for key, value in options.items() if value is not None and value != []}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            found = [f"--{key.replace('_', '-')}: {what}" if key else what for key, what in mistakes(error)]
            raise UsageError("; ".join(found)) from error

    def arguments(self, *, defaults: bool = True) -> dict[str, Any]:
        """What decides about the outcome, as plain data; without `defaults` only what differs from them."""
        return self.model_dump(mode="json", exclude_defaults=not defaults, exclude=WITHOUT_EFFECT)


def mistakes(error: ValidationError, lists: Collection[str] = ()) -> list[tuple[str, str]]:
    """Each mistake as (dotted key, what is wrong with it), in plain words.

    Args:
        error: what pydantic found.
        lists: the sections that were given as lists; their keys have the number of the section, from 1.
    """
    found = []
    for detail in error.errors():
        path = detail["loc"]
        if len(path) > 1 and path[0] in lists and isinstance(path[1], int):
            path = (path[0], str(path[1] + 1), *path[2:])
        keys = [str(part) for part in path if not isinstance(part, int)]
        what = detail["msg"].removeprefix("Value error, ")
        if detail["type"] in ("model_type", "dict_type"):
            what = f"should be a section of keys and values, not {detail['input']!r}"
        elif detail["type"] == "extra_forbidden":
            what = "there is no such key"
        elif detail["type"] == "missing":
            what = "is missing"
        elif detail["type"] != "value_error":
            what = f"{what[0].lower()}{what[1:]}, not {detail['input']!r}"
        found.append((".".join(keys), what))
    return found


class NetworkSettings(Settings):
    """What a network is made with; what is not given is as in the checkpoint, else as the data needs it."""

    classes: int | None = Field(None, ge=1, description="Classes that the network tells apart.")
    grayscale: bool | None = Field(None, description="Whether it sees one channel, or three.")
    dropout: float | None = Field(None, ge=0, lt=1, description="Part of the activations that dropout leaves out.")
    crop: int | None = Field(None, ge=1, description="Height and width of the images that it sees.")


class DataSettings(NetworkSettings):
    """Which data set, where it is kept, and how photos are read."""

    data: DataName | None = Field(None, description=f"Data set: {', '.join(DATA_NAMES)}.")
    data_dir: Path | None = Field(
        None, description="Folder that holds data sets, as in DIR/MNIST/raw; else $DCOMP_DATA, else a cache folder."
    )
    resize: int | None = Field(
        None, ge=1, le=4096, description="Short side at which photos are stored; 8/7 of what the network sees."
    )
    workers: int | None = Field(None, ge=0, le=256, description="Processes that decode photos; one a core.")
    cache: Path | None = Field(None, description="Folder to keep decoded photos in, for the next epochs and runs.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps ...")


class LearningSettings(DataSettings):
    """How a network trains, in whatever stage."""

    epochs: int = Field(0, ge=0, description="Passes over the training data.")
    batch_size: int = Field(64, ge=1, le=1 << 31, description="Examples a step.")
    lr: float = Field(0.02, gt=0, description="Learning rate at the start.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Nesterov momentum of sgd.")
    weight_decay: float = Field(0.0005, ge=0, description="L2 penalty of the optimizer.")
    optimizer: Optimizer = Field("sgd", description="Optimizer.")
    lr_schedule: LrSchedule = Field("cosine", description="Course of the learning rate over the run.")
    warmup: float = Field(0.0, ge=0, description="Epochs in which the learning rate rises to --lr first.")
    patience: int = Field(5, ge=0, description="For plateau: epochs without a lower validation loss before --lr falls.")
    clip_norm: float | None = Field(None, gt=0, description="Longest gradient, all layers together; longer are scaled.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Part of a label that is spread over all classes.")
    precision: Precision = Field("fp32", description="What the network computes in; bf16 keeps float32 weights.")
    compile: bool = Field(False, description="Compile the network; pays where an epoch takes minutes.")
    augment: Augment = Field(
        "auto",
        description="Changes to training images: shift moves them by up to a pixel, crop-flip cuts them at random and "
        "mirrors half; auto: crop-flip for photos and CIFAR, else none.",
    )
    val_split: float = Field(
        0.08, ge=0, lt=1, description="Part of the training data set aside to choose the best epoch by; 0: the last."
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of everything that chance decides.")

    @model_validator(mode="after")
    def _epochs_need_data(self) -> Self:
        if self.epochs and not self.data:
            raise ValueError("training for epochs needs data: name a data set, like mnist")
        return self

    @model_validator(mode="after")
    def _schedule_fits_epochs(self) -> Self:
        if self.epochs and self.warmup >= self.epochs:
            raise ValueError(f"warmup < epochs must hold, not {self.warmup:g} < {self.epochs}")
        if self.lr_schedule == "plateau" and not self.val_split:
            raise ValueError("lr_schedule plateau goes by validation: give a val_split above 0")
        return self


class TrainSettings(LearningSettings):
    """`dcomp train`."""

    architecture: str = Field(description=f"{', '.join(NETWORKS)}.")
    pretrained: bool = Field(False, description="Start from torchvision's weights; they are downloaded.")
    epochs: int = Field(20, ge=1, description="Passes over the training data.")


class ChosenSettings(LearningSettings):
    """How some tensors of a checkpoint are changed: which, by name."""

    only: Patterns = Field((), description="REGEX of the names to change, all others left alone; repeatable.")
    skip: Patterns = Field((), description="REGEX of names to leave alone; repeatable.")


class PruneSettings(ChosenSettings):
    """`dcomp prune`. What is asked for is a sparsity, a count, an amount or a threshold, all layers' or by `layer`."""

    sparsity: float | None = Field(None, ge=0, le=1, description="Fraction of weights that become zero.")
    count: int | None = Field(None, ge=0, description="Number of weights (or rows) that become zero.")
    amount: float | None = Field(None, ge=0, lt=1, description="Fraction of what is left that each move sets to zero.")
    threshold: float | None = Field(
        None, gt=0, description="For std: keep what exceeds S standard deviations, as found."
    )
    layer: Rules = Field(
        (), description="REGEX=VALUE for layers of their own, in the unit of the rest, else sparsity; repeatable."
    )
    criterion: Criterion = Field("magnitude", description="What a weight is kept for.")
    scope: Scope = Field("global", description="One budget for all layers, or one for each.")
    structure: Structure = Field("weight", description="Prune single weights, or whole rows: neurons and filters.")
    plan: PrunePlan = Field((), description="Plan of dcomp sensitivity; --layer overrides it.")
    kinds: Kinds = Field(("conv", "linear"), description="Kinds of tensors to prune, of conv, linear and bias.")
    schedule: ScheduleName = Field("gradual", description="How sparsity grows while the network retrains.")
    start: float = Field(0.0, ge=0, description="Epoch of the first move of the masks.")
    until: float | None = Field(None, ge=0, description="Epoch of the last move; half of --epochs unless given.")
    every: float = Field(1.0, ge=0.001, description="Epochs between two moves.")
    at: Epochs = Field((), description="Epochs of all moves, in place of start, until and every.")
    rewind: FileName | None = Field(
        None, description="Checkpoint whose values the kept weights, and all else, go back to: a lottery ticket."
    )

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        given = [unit for unit in UNITS if getattr(self, unit) is not None]
        if self.criterion == "std":
            if self.threshold is None:
                raise ValueError("criterion std prunes by threshold: give one, like 1.0")
            if len(given) > 1:
                raise ValueError(f"criterion std takes a threshold and no {given[0]}")
            if self.structure == "row":
                raise ValueError("criterion std judges single weights: leave structure row out")
        elif self.threshold is not None:
            raise ValueError("a threshold goes with criterion std")
        elif len(given) > 1:
            raise ValueError(f"{' and '.join(given)} say the same in two ways: give one")
        elif not given and not self.rules:
            raise ValueError("give a sparsity, like 0.9, or a count or an amount")
        if self.plan and (self.unit != "sparsity" or self.structure != "weight"):
            raise ValueError("a plan holds sparsities of single weights: no other unit and no structure goes with it")
        fits, limit = LAYER_LIMITS[self.unit]
        if not all(fits(rule.value) for rule in self.rules):
            raise ValueError(limit)
        if self.structure == "row" and self.scope == "global":
            raise ValueError("structure row ranks the rows of one layer: give scope layer as well")
        return self

    @model_validator(mode="after")
    def _moves_within_epochs(self) -> Self:
        if self.at:
            self._check_listed_moves()
        elif self.epochs and not self.start <= self.moves_until < self.epochs:
            times = f"{self.start:g} <= {self.moves_until:g} < {self.epochs}"
            raise ValueError(f"start <= until < epochs must hold, not {times}")
        if self.rewind and self.epochs and (self.schedule != "oneshot" or self.start or self.at):
            raise ValueError(
                "rewind prunes once, before the network retrains: give schedule oneshot, and a section for each round"
            )
        return self

    def _check_listed_moves(self) -> None:
        if not self.epochs:
            raise ValueError("moves at listed epochs need a network that retrains: give epochs as well")
        if self.start or self.until is not None or self.every != 1:
            raise ValueError("at lists all moves: leave start, until and every out")
        if self.schedule == "oneshot" and len(self.at) > 1:
            raise ValueError("schedule oneshot moves masks once: give one epoch in at")
        if list(self.at) != sorted(set(self.at)) or self.at[-1] >= self.epochs:
            listed = ", ".join(f"{time:g}" for time in self.at)
            raise ValueError(f"the moves in at ascend and lie below the {self.epochs} epochs, not so {listed}")

    @property
    def unit(self) -> Unit:
        """What is asked for, and what the values of rules mean."""
        return next((unit for unit in UNITS if getattr(self, unit) is not None), "sparsity")

    @property
    def rules(self) -> list[Rule]:
        """What is asked for single layers."""
        return [Rule.parse(text) for text in (*self.plan, *self.layer)]

    @property
    def moves_until(self) -> float:
        """When masks come to rest."""
        return self.until if self.until is not None else max(self.start, self.epochs / 2)

    @property
    def mask_schedule(self) -> Schedule:
        """The schedule by which masks move while the network retrains; without epochs they move once."""
        if not self.epochs:
            return Schedule("oneshot")
        schedule = Schedule(self.schedule, self.start, self.moves_until, self.every, self.at)
        return schedule if self.amount is None else Schedule("iterative", at=tuple(schedule.moves()))


class QuantizeSettings(ChosenSettings):
    """`dcomp quantize`. Centroids train by Adam: their gradients are sums over very different numbers of weights."""

    conv_bits: Bits | None = Field(None, description="Bits of a convolution's codes: 2^bits shared values.")
    fc_bits: Bits | None = Field(None, description="Bits of a fully connected layer's codes.")
    bias_bits: Bits | None = Field(None, description="Bits for biases and normalization tensors, else left alone.")
    bits: Rules = Field((), description="REGEX=BITS for layers of their own; repeatable.")
    plan: QuantizePlan = Field((), description="Plan of dcomp sensitivity; --bits overrides it.")
    init: Init = Field("linear", description="Where centroids start; optimal is exact, and slower.")
    start: int = Field(0, ge=0, description="Epoch at which weights are shared; until then they train, zeros held.")
    optimizer: Optimizer = Field("adam", description="Optimizer.")
    lr: float = Field(0.0002, gt=0, description="Learning rate at the start.")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty of the optimizer.")

    @model_validator(mode="after")
    def _some_bits(self) -> Self:
        if not (self.bits_of_kind or self.rules):
            raise ValueError("say how many bits, like 8 for conv_bits (--conv-bits) and 5 for fc_bits (--fc-bits)")
        if any(rule.value != int(rule.value) or not 1 <= rule.value <= MAX_BITS for rule in self.rules):
            raise ValueError(f"the bits of a layer are a whole number from 1 to {MAX_BITS}")
        return self

    @model_validator(mode="after")
    def _starts_within_epochs(self) -> Self:
        if self.start > self.epochs:
            raise ValueError(f"start <= epochs must hold, not {self.start} <= {self.epochs}")
        return self

    @property
    def rules(self) -> list[Rule]:
        """Per-layer bits."""
        return [Rule.parse(text) for text in (*self.plan, *self.bits)]

    @property
    def bits_of_kind(self) -> dict[Kind, int]:
        """Bits by kind of tensor, for the kinds that were asked for."""
        asked: dict[Kind, int | None] = {"conv": self.conv_bits, "linear": self.fc_bits, "bias": self.bias_bits}
        return {kind: bits for kind, bits in asked.items() if bits is not None}


class EncodeSettings(Settings):
    """`dcomp encode`: it is lossless and finds the smallest encoding by itself, trying more or less hard."""

    level: LevelName = Field("default", description="How hard to try for fewer bytes; all levels decode alike.")


class EvalSettings(DataSettings):
    """`dcomp eval`."""

    data: DataName = Field(description=f"Data set: {', '.join(DATA_NAMES)}.")
    precision: Precision = Field("fp32", description="What the network computes in.")
    max_error: float | None = Field(None, ge=0, le=100, description="Exit 1 if the top-1 error in percent is above.")

    @property
    def examples(self) -> str:
        """What errors are measured on: the data set, and how its images are cut if that is set."""
        cut = {key: value for key, value in (("crop", self.crop), ("resize", self.resize)) if value is not None}
        return " ".join([self.data, *(f"{key}={value}" for key, value in cut.items())])


class SensitivitySettings(DataSettings):
    """`dcomp sensitivity`."""

    data: DataName = Field(description="Data set.")
    prune: Sparsities = Field(
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95), description="Sparsities to try, or none."
    )
    bits: BitCounts = Field((1, 2, 3, 4, 5, 6, 7, 8), description="Bits of shared values to try, or none.")
    limit: int | None = Field(None, ge=1, description="Measure on the first N of the validation examples only.")
    val_split: float = Field(0.08, gt=0, lt=1, description="Part of the training data that is measured on.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed by which that part is drawn.")
    max_drop: float | None = Field(
        None, ge=0, le=100, description="Percentage points of top-1 accuracy that a plan as a whole may cost."
    )

    @model_validator(mode="after")
    def _some_amount(self) -> Self:
        if not (self.prune or self.bits):
            raise ValueError("nothing to try: give sparsities (--prune) or bits (--bits)")
        return self


class ReportSettings(Settings):
    """`dcomp report`."""

    min_ratio: float | None = Field(None, gt=0, description="Exit 1 if the ratio of the whole file is below.")
