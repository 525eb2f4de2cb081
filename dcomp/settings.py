"""What a person may set, stage by stage.

Options and recipe keys have their meaning, default and limits here and nowhere else: the command line makes its
options from these classes, a recipe its sections.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

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


def _split_at_commas(value: object) -> object:
    return tuple(value.split(",")) if isinstance(value, str) else value


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else value


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

PLACES = {"data_dir", "device", "cache", "workers"}
"""Settings that say where something is or runs, and do not change what comes out."""

Bits = Annotated[int, Field(ge=1, le=MAX_BITS)]
Rules = Annotated[tuple[str, ...], BeforeValidator(_one_or_more), AfterValidator(_parses_as_rules)]
Kinds = Annotated[tuple[Kind, ...], BeforeValidator(_split_at_commas), Field(min_length=1)]
LevelName = Literal["fast", "default", "max"]
DataName = Annotated[str, AfterValidator(_names_data)]
Optimizer = Literal["sgd", "adam", "adamw"]
LrSchedule = Literal["constant", "step", "cosine"]
Augment = Literal["auto", "none", "shift", "crop-flip"]
Criterion = Literal["magnitude", "std", "random"]
Scope = Literal["global", "layer"]


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


def mistakes(error: ValidationError) -> list[tuple[str, str]]:
    """Each mistake as (dotted key, what is wrong with it), in plain words."""
    found = []
    for detail in error.errors():
        keys = [str(part) for part in detail["loc"] if not isinstance(part, int)]
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


class TrainSettings(LearningSettings):
    """`dcomp train`."""

    architecture: str = Field(description=f"{', '.join(NETWORKS)}.")
    pretrained: bool = Field(False, description="Start from torchvision's weights; they are downloaded.")
    epochs: int = Field(20, ge=1, description="Passes over the training data.")


class PruneSettings(LearningSettings):
    """`dcomp prune`."""

    sparsity: float | None = Field(None, ge=0, le=1, description="Fraction of weights that become zero.")
    criterion: Criterion = Field("magnitude", description="What a weight is kept for.")
    scope: Scope = Field("global", description="One budget for all layers, or one for each.")
    layer: Rules = Field((), description="REGEX=SPARSITY for layers of their own (REGEX=S with std); repeatable.")
    threshold: float | None = Field(None, gt=0, description="For std: keep what exceeds S standard deviations.")
    kinds: Kinds = Field(("conv", "linear"), description="Kinds of tensors to prune, of conv, linear and bias.")
    schedule: ScheduleName = Field("gradual", description="How sparsity grows while the network retrains.")
    start: float = Field(0.0, ge=0, description="Epoch of the first move of the masks.")
    until: float | None = Field(None, ge=0, description="Epoch of the last move; half of --epochs unless given.")
    every: float = Field(1.0, ge=0.001, description="Epochs between two moves.")

    @model_validator(mode="after")
    def _amount_fits_criterion(self) -> Self:
        if self.criterion == "std":
            if self.threshold is None:
                raise ValueError("criterion std prunes by threshold: give one, like 1.0")
            if self.sparsity is not None:
                raise ValueError("criterion std takes a threshold and no sparsity")
            if any(rule.value <= 0 for rule in self.rules):
                raise ValueError("the threshold of a layer lies above 0")
        elif self.threshold is not None:
            raise ValueError("a threshold goes with criterion std")
        elif self.sparsity is None and not self.layer:
            raise ValueError("give a sparsity, like 0.9")
        elif any(not 0 <= rule.value <= 1 for rule in self.rules):
            raise ValueError("the sparsity of a layer lies between 0 and 1")
        return self

    @model_validator(mode="after")
    def _moves_within_epochs(self) -> Self:
        if self.epochs and not self.start <= self.moves_until < self.epochs:
            times = f"{self.start:g} <= {self.moves_until:g} < {self.epochs}"
            raise ValueError(f"start <= until < epochs must hold, not {times}")
        return self

    @property
    def rules(self) -> list[Rule]:
        """Per-layer sparsities; per-layer thresholds with criterion `std`."""
        return [Rule.parse(text) for text in self.layer]

    @property
    def moves_until(self) -> float:
        """When masks come to rest."""
        return self.until if self.until is not None else max(self.start, self.epochs / 2)

    def mask_schedule(self, last_step: float) -> Schedule:
        """The schedule by which masks move while the network retrains; they rest at `last_step`, in epochs."""
        return Schedule(self.schedule, min(self.start, last_step), min(self.moves_until, last_step), self.every)


class QuantizeSettings(LearningSettings):
    """`dcomp quantize`. Centroids train by Adam: their gradients are sums over very different numbers of weights."""

    conv_bits: Bits | None = Field(None, description="Bits of a convolution's codes: 2^bits shared values.")
    fc_bits: Bits | None = Field(None, description="Bits of a fully connected layer's codes.")
    bias_bits: Bits | None = Field(None, description="Bits for biases and normalization tensors, else left alone.")
    bits: Rules = Field((), description="REGEX=BITS for layers of their own; repeatable.")
    init: Init = Field("linear", description="Where centroids start; optimal is exact, and slower.")
    optimizer: Optimizer = Field("adam", description="Optimizer.")
    lr: float = Field(0.0002, gt=0, description="Learning rate at the start.")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty of the optimizer.")

    @model_validator(mode="after")
    def _some_bits(self) -> Self:
        if not (self.bits_of_kind or self.bits):
            raise ValueError("say how many bits, like 8 for conv_bits (--conv-bits) and 5 for fc_bits (--fc-bits)")
        if any(rule.value != int(rule.value) or not 1 <= rule.value <= MAX_BITS for rule in self.rules):
            raise ValueError(f"the bits of a layer are a whole number from 1 to {MAX_BITS}")
        return self

    @property
    def rules(self) -> list[Rule]:
        """Per-layer bits."""
        return [Rule.parse(text) for text in self.bits]

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
    max_error: float | None = Field(None, ge=0, le=100, description="Exit 1 if the top-1 error in percent is above.")

    @property
    def examples(self) -> str:
        """What errors are measured on: the data set, and how its images are cut if that is set."""
        cut = {key: value for key, value in (("crop", self.crop), ("resize", self.resize)) if value is not None}
        return " ".join([self.data, *(f"{key}={value}" for key, value in cut.items())])


class ReportSettings(Settings):
    """`dcomp report`."""

    min_ratio: float | None = Field(None, gt=0, description="Exit 1 if the ratio of the whole file is below.")
