"""Types of the values that options and recipe keys take, and their checks."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
)

from dcomp.checkpoints.layers import Kind, Rule
from dcomp.errors import UsageError, did_you_mean
from dcomp.pruning.criteria import CRITERIA
from dcomp.quantization import MAX_BITS
from dcomp.settings import plan as plan_file
from dcomp.settings.built_in_networks import BUILT_IN_NETWORKS
from dcomp.settings.torch_optimizers import OPTIMIZERS, REFUSED, parse_as_options


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
    """Return a validator that replaces the path of a plan by the plan's rules for a stage."""

    def read(value: object) -> object:
        try:
            return plan_file.rules(expand_home(Path(value)), stage) if isinstance(value, str | Path) else value
        except UsageError as error:
            raise ValueError(str(error)) from error

    return read


def _split_numbers(value: object) -> object:
    """Split a text at its commas; `none` gives no numbers."""
    return tuple(value.split(",") if value != "none" else ()) if isinstance(value, str) else value


def _ascending(numbers: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(sorted(set(numbers)))


def _split_at_commas(value: object) -> object:
    return tuple(value.split(",")) if isinstance(value, str) else value


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str | int | float) else value


def _as_rules(value: object) -> object:
    """Turn a mapping of a recipe, from patterns to numbers, into texts, as the command line gives them."""
    return tuple(f"{key}={number}" for key, number in value.items()) if isinstance(value, Mapping) else value


def _as_texts(value: object) -> object:
    """Turn integers into texts, as the command line gives them."""
    values = value if isinstance(value, list | tuple) else (value,)
    return tuple(str(item) if isinstance(item, int) and not isinstance(item, bool) else item for item in values)


def _below_one(fraction: float) -> float:
    if fraction >= 1:
        raise ValueError(f"must be at least 0 and below 1, not {fraction:g}{hint_at_fraction(fraction)}")
    return fraction


def _compiles(patterns: tuple[str, ...]) -> tuple[str, ...]:
    try:
        for pattern in patterns:
            re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    return patterns


def is_for_all_layers(bits: str) -> bool:
    """Return whether an entry of `bits` is for all layers: `auto` or a number, not a rule."""
    return bits == AUTO_BITS or bits.isdecimal()


def hint_at_fraction(value: float) -> str:
    """Return a hint for a value that looks like a percentage, else an empty text."""
    return f"; did you mean {value / 100:g}?" if 1 < value < 100 else ""


def _unknown(kind: str, name: str, choices: Sequence[str]) -> ValueError:
    """Return the error for an unknown name; it suggests the nearest of the choices."""
    hint = did_you_mean(name.lower(), [choice for choice in choices if choice.lower() not in PLACEHOLDERS])
    there_are = f"{hint} There are" if hint else "; there are"
    return ValueError(f"there is no {kind} {name!r}{there_are} {', '.join(choices)}")


def data_name(name: str) -> str:
    """Return the name of a data set with the case that `DATA_NAMES` has.

    Raises:
        ValueError: no data set has this name; the nearest name is suggested.
    """
    family, _, argument = name.partition(":")
    if name.lower() in DATA_NAMES and name.lower() not in PLACEHOLDERS:
        return name.lower()
    if family.lower() == "imagefolder" and argument:
        return f"imagefolder:{argument}"
    if re.fullmatch(r"(?!(?i:image))[\w.]+:\w+", name):
        return name
    raise _unknown("data set", name, DATA_NAMES)


def names_code(data: str) -> bool:
    """Return whether the name of a data set is that of a factory of the user."""
    family, separator, _ = data.partition(":")
    return bool(separator) and family not in ("imagefolder", "imagenette")


def network_name(name: str) -> str:
    """Return the name of a network with the case that `NETWORKS` has.

    Raises:
        ValueError: no network has this name; the nearest name is suggested.
    """
    if name.lower() in NETWORKS and name.lower() not in PLACEHOLDERS:
        return name.lower()
    if name.lower().startswith(TORCHVISION):
        return name.lower()
    if name.lower().startswith(TRANSFORMERS):
        return f"{TRANSFORMERS}{expand_home(Path(name[len(TRANSFORMERS) :]))}"
    if ":" in name:
        return name
    raise ValueError(f"{_unknown('architecture', name, NETWORKS)} (a network of your own)")


def config_of_transformers(folder: str) -> Path:
    """Return the file that describes the network of Transformers in a folder."""
    return Path(folder) / CONFIG_NAME


def _noted_network(name: str) -> str:
    """Return a network's name as notes have it, which name a folder, but not its place."""
    is_folder = name.startswith(TRANSFORMERS)
    return f"{TRANSFORMERS}{Path(name[len(TRANSFORMERS) :]).name}" if is_folder else name


def criterion_name(name: str) -> str:
    """Return the name of a criterion: of the table, or of a function of the user.

    Raises:
        ValueError: no criterion has this name; the nearest name is suggested.
    """
    choices = (*CRITERIA, "package.module:function")
    if name in CRITERIA or (re.fullmatch(r"[\w.]+:\w+", name) and name not in choices):
        return name
    raise _unknown("criterion", name, choices)


def optimizer_name(name: str) -> str:
    """Return the name of an optimizer with the case that `OPTIMIZERS` has.

    Raises:
        ValueError: torch has no such optimizer, and the nearest name is suggested; or nothing here can train with it.
    """
    if name.lower() in REFUSED:
        raise ValueError(f"{name} cannot be used: {REFUSED[name.lower()]}")
    if name.lower() not in OPTIMIZERS:
        raise _unknown("optimizer", name, tuple(OPTIMIZERS))
    return name.lower()


def expand_home(path: Path) -> Path:
    """Replace `~` or `~user` by the home folder, as a shell does; leave the path as it is if there is no such user.

    Raises:
        ValueError: the path has a NUL character.
    """
    if "\0" in str(path):
        raise ValueError(f"a path cannot hold a NUL, as {str(path)!r} does")
    try:
        return path.expanduser()
    except RuntimeError:  # there is no such user
        return path


MAX_SEED = (1 << 63) - 1

AUTO_BITS = "auto"
"""An entry of `bits`: dcomp chooses the number of shared values of each tensor."""

DATA_NAMES = (
    *("mnist", "fashion-mnist", "cifar10", "cifar100", "digits"),
    *("imagenette", "imagenette:320px", "imagenette:160px", "imagefolder:PATH", "package.module:factory"),
)
"""Names of the data sets, and the forms of names for data sets of the user."""

NETWORKS = (*BUILT_IN_NETWORKS, "torchvision:NAME", "transformers:FOLDER", "package.module:factory")
"""Names of the networks, and the forms of names for networks of libraries and of the user."""

PLACEHOLDERS = {
    *("imagefolder:path", "package.module:factory", "package.module:function"),
    *("torchvision:name", "transformers:folder"),
}
"""The forms of names of the user's own, in lower case; they are no names."""

CONFIG_NAME = "config.json"
"""Name of the file that describes a network of Transformers in its folder."""

TORCHVISION, TRANSFORMERS = "torchvision:", "transformers:"
"""What names of these libraries' networks begin with."""

Criterion = Annotated[str, AfterValidator(criterion_name)]
Fraction = Annotated[float, Field(ge=0), AfterValidator(_below_one)]
BitCount = Annotated[int, Field(ge=1, le=MAX_BITS)]
Rules = Annotated[
    tuple[str, ...], BeforeValidator(_one_or_more), BeforeValidator(_as_rules), AfterValidator(_parses_as_rules)
]
BitRules = Annotated[
    tuple[str, ...], BeforeValidator(_as_texts), BeforeValidator(_as_rules), AfterValidator(_parses_as_bits)
]
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
CheckpointFile = Annotated[UserPath, PlainSerializer(lambda path: path.name)]  # notes name the file, not its folder
LevelName = Literal["fast", "default", "max"]
DataName = Annotated[str, AfterValidator(data_name)]
NetworkName = Annotated[str, AfterValidator(network_name), PlainSerializer(_noted_network)]
Optimizer = Annotated[str, AfterValidator(optimizer_name)]
OptimizerOptions = Annotated[tuple[str, ...], BeforeValidator(_one_or_more), AfterValidator(parse_as_options)]
LrSchedule = Literal["constant", "step", "cosine", "one-cycle", "plateau"]
Precision = Literal["fp32", "bf16"]
DistillLoss = Literal["kl", "mse", "cosine"]
CodebookValues = Literal["float32", "bfloat16", "float16"]
Provenance = Literal["full", "settings", "none"]
Augment = Literal["auto", "none", "shift", "affine", "crop-flip"]
Scope = Literal["global", "layer"]
Structure = Literal["weight", "row"]
Unit = Literal["sparsity", "count", "amount", "threshold", "target_ratio"]

UNITS: tuple[Unit, ...] = get_args(Unit)
LAYER_LIMITS: dict[Unit, tuple[Callable[[float], bool], str]] = {
    "sparsity": (lambda value: 0 <= value < 1, "the sparsity of a layer must be at least 0 and below 1"),
    "count": (
        lambda value: value >= 0 and value == int(value),
        "the count of a layer must be a whole number",
    ),
    "amount": (lambda value: 0 <= value < 1, "the amount of a layer must be at least 0 and below 1"),
    "threshold": (lambda value: value > 0, "the threshold of a layer must be above 0"),
    "target_ratio": (lambda value: False, "target_ratio takes no amounts for single layers"),
}
"""For each unit: whether a rule may have this value, and the error if not."""
