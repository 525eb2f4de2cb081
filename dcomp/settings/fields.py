"""Kinds of values that options and recipe keys take, and what makes one wrong."""

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
)

from dcomp.checkpoints.layers import Kind, Rule
from dcomp.errors import UsageError
from dcomp.pruning.criteria import CRITERIA
from dcomp.quantization import MAX_BITS
from dcomp.settings import plan as plan_file
from dcomp.settings.built_in_networks import BUILT_IN_NETWORKS


def _parses_as_rules(texts: tuple[str, ...]) -> tuple[str, ...]:
    try:
        for text in texts:
            Rule.parse(text)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return texts


def _parses_as_bits(texts: tuple[str, ...]) -> tuple[str, ...]:
    _parses_as_rules(tuple(text for text in texts if not is_for_all_layers(text)))
    if len([text for text in texts if is_for_all_layers(text)]) > 1:
        raise ValueError(f"bits of all layers are given once, as a number or as {AUTO_BITS}")
    return texts


def _rules_of_plan(stage: plan_file.Stage) -> Callable[[object], object]:
    """A validator that reads a plan's path into its rules for a stage, so that settings hold what the plan says."""

    def read(value: object) -> object:
        try:
            return plan_file.rules(expand_home(Path(value)), stage) if isinstance(value, str | Path) else value
        except UsageError as error:
            raise ValueError(str(error)) from error

    return read


def _split_numbers(value: object) -> object:
    """Numbers between commas; `none` is no number."""
    return tuple(value.split(",") if value != "none" else ()) if isinstance(value, str) else value


def _ascending(numbers: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(sorted(set(numbers)))


def _split_at_commas(value: object) -> object:
    return tuple(value.split(",")) if isinstance(value, str) else value


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str | int | float) else value


def _as_texts(value: object) -> object:
    """Whole numbers as texts, as a command line gives them."""
    values = value if isinstance(value, list | tuple) else (value,)
    return tuple(str(part) if isinstance(part, int) and not isinstance(part, bool) else part for part in values)


def _below_one(fraction: float) -> float:
    if fraction >= 1:
        raise ValueError(f"{fraction:g} does not lie from 0 to below 1{did_you_mean_a_fraction(fraction)}")
    return fraction


def _compiles(patterns: tuple[str, ...]) -> tuple[str, ...]:
    try:
        for pattern in patterns:
            re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    return patterns


def is_for_all_layers(bits: str) -> bool:
    """Whether what is given for bits is for all layers: `auto`, or a number and no rule."""
    return bits == AUTO_BITS or bits.isdecimal()


def did_you_mean_a_fraction(value: float) -> str:
    """A hint for who counts in percent; nothing where that would be no help."""
    return f"; did you mean {value / 100:g}?" if 1 < value < 100 else ""


def _unknown(what: str, name: str, names: Sequence[str]) -> ValueError:
    near = get_close_matches(name.lower(), [other for other in names if other.lower() not in PLACEHOLDERS], n=1)
    hint = f"did you mean {near[0]}? There are" if near else "there are"
    return ValueError(f"there is no {what} {name!r}; {hint} {', '.join(names)}")


def data_name(name: str) -> str:
    """A data set's name as it is written here, from one in any case.

    Raises:
        ValueError: there is none of this name; the nearest one is suggested.
    """
    family, _, argument = name.partition(":")
    if name.lower() in DATA_NAMES and name.lower() not in PLACEHOLDERS:
        return name.lower()
    if family.lower() == "imagefolder" and argument:
        return f"imagefolder:{argument}"
    if re.fullmatch(r"(?!(?i:image))[\w.]+:\w+", name):
        return name
    raise _unknown("data set", name, DATA_NAMES)


def network_name(name: str) -> str:
    """A network's name as it is written here, from one in any case.

    Raises:
        ValueError: there is none of this name; the nearest one is suggested.
    """
    if name.lower() in NETWORKS and name.lower() not in PLACEHOLDERS:
        return name.lower()
    if name.lower().startswith(TORCHVISION):
        return name.lower()
    if ":" in name:
        return name
    raise ValueError(f"{_unknown('architecture', name, NETWORKS)} (a network of your own)")


def expand_home(path: Path) -> Path:
    """Replace `~` or `~user` by the home folder, as a shell does, but also after `=`; a path of no user stays.

    Raises:
        ValueError: a character that no path has.
    """
    if "\0" in str(path):
        raise ValueError(f"a path cannot hold a NUL, as {str(path)!r} does")
    try:
        return path.expanduser()
    except RuntimeError:  # there is no such user
        return path


MAX_SEED = (1 << 63) - 1

AUTO_BITS = "auto"
"""In place of a rule for bits: as many values for each tensor as are worth their bytes."""

DATA_NAMES = (
    *("mnist", "fashion-mnist", "cifar10", "cifar100", "digits"),
    *("imagenette", "imagenette:320px", "imagenette:160px", "imagefolder:PATH", "package.module:factory"),
)
"""Data sets, and the forms of those that a person has."""

NETWORKS = (*BUILT_IN_NETWORKS, "torchvision:NAME", "package.module:factory")
"""Networks, and the forms of others."""

PLACEHOLDERS = {"imagefolder:path", "package.module:factory", "torchvision:name"}
"""Those forms, in lower case."""

TORCHVISION = "torchvision:"

if TYPE_CHECKING:
    Criterion = str
else:
    Criterion = Literal[tuple(CRITERIA)]  # one list of names, that of the table

Fraction = Annotated[float, Field(ge=0), AfterValidator(_below_one)]
BitCount = Annotated[int, Field(ge=1, le=MAX_BITS)]
Rules = Annotated[tuple[str, ...], BeforeValidator(_one_or_more), AfterValidator(_parses_as_rules)]
BitRules = Annotated[tuple[str, ...], BeforeValidator(_as_texts), AfterValidator(_parses_as_bits)]
Patterns = Annotated[tuple[str, ...], BeforeValidator(_one_or_more), AfterValidator(_compiles)]
PrunePlan = Annotated[Rules, BeforeValidator(_rules_of_plan("prune"))]
QuantizePlan = Annotated[Rules, BeforeValidator(_rules_of_plan("quantize"))]
Sparsities = Annotated[
    tuple[Annotated[float, Field(gt=0), AfterValidator(_below_one)], ...],
    BeforeValidator(_split_numbers),
    AfterValidator(_ascending),
]
BitCounts = Annotated[tuple[BitCount, ...], BeforeValidator(_split_numbers), AfterValidator(_ascending)]
Kinds = Annotated[tuple[Kind, ...], BeforeValidator(_split_at_commas), Field(min_length=1)]
Epoch = Annotated[float, Field(ge=0)]
Epochs = Annotated[tuple[Epoch, ...], BeforeValidator(_one_or_more), BeforeValidator(_split_at_commas)]
UserPath = Annotated[Path, AfterValidator(expand_home)]
CheckpointFile = Annotated[UserPath, PlainSerializer(lambda path: path.name)]  # where it lay is the machine's affair
LevelName = Literal["fast", "default", "max"]
DataName = Annotated[str, AfterValidator(data_name)]
NetworkName = Annotated[str, AfterValidator(network_name)]
Optimizer = Literal["sgd", "adam", "adamw"]
LrSchedule = Literal["constant", "step", "cosine", "one-cycle", "plateau"]
Precision = Literal["fp32", "bf16"]
CodebookValues = Literal["float32", "bfloat16", "float16"]
Provenance = Literal["full", "settings", "none"]
Augment = Literal["auto", "none", "shift", "affine", "crop-flip"]
Scope = Literal["global", "layer"]
Structure = Literal["weight", "row"]
Unit = Literal["sparsity", "count", "amount", "threshold", "target_ratio"]

UNITS: tuple[Unit, ...] = get_args(Unit)
LAYER_LIMITS: dict[Unit, tuple[Callable[[float], bool], str]] = {
    "sparsity": (lambda value: 0 <= value < 1, "the sparsity of a layer lies from 0 to below 1"),
    "count": (lambda value: value >= 0 and value == int(value), "the count of a layer is a whole number"),
    "amount": (lambda value: 0 <= value < 1, "the amount of a layer lies from 0 to below 1"),
    "threshold": (lambda value: value > 0, "the threshold of a layer lies above 0"),
    "target_ratio": (lambda value: False, "target_ratio takes no layers of their own"),
}
"""What a rule may ask for a layer, by unit."""
