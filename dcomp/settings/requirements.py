"""Which options require others, and which exclude each other: one table for all settings.

An option that would do nothing is refused, with the option that it needs. Rows name options and *conditions*:

- `distill`           the option has a value
- `optimizer=sgd`     it has this value
- `epochs>0`          it is above zero

A row applies to each class of settings that has its fields.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from pydantic import BaseModel

from dcomp.pruning.criteria import CRITERIA
from dcomp.settings.fields import UNITS
from dcomp.settings.torch_optimizers import OPTIMIZERS

TRAINING_OPTIONS = (
    *("data", "data_dir", "resize", "workers", "cache", "device", "threads", "trust_code"),
    *("classes", "grayscale", "dropout", "crop"),
    *("batch_size", "lr", "momentum", "weight_decay", "optimizer", "lr_schedule", "warmup", "patience", "clip_norm"),
    *("label_smoothing", "precision", "compile", "augment", "distill", "temperature", "alpha", "ema", "val_split"),
    *("distill_loss", "distill_at"),
    *("schedule", "start", "until", "every", "at", "remove_dead_units"),
    *("optimizer_option", "l1", "freeze", "early_stop", "min_epochs"),
)
"""Options that have an effect only while a network trains."""

NOTHING_WITHOUT_TRAINING = "{options} would do nothing without training: give {epochs} as well"
"""The error for these options without epochs."""

BY_GRADIENTS = [name for name, criterion in CRITERIA.items() if criterion.needs_gradients]
BY_CHANCE = [name for name, criterion in CRITERIA.items() if criterion.needs_chance]
BY_WEIGHT = [name for name, criterion in CRITERIA.items() if "row" not in criterion.granularity]
"""Criteria that need gradients, need random numbers, and rank single weights only."""

WITH_MOMENTUM = [name for name, optimizer in OPTIMIZERS.items() if optimizer.takes_momentum]
WITHOUT_WEIGHT_DECAY = [name for name, optimizer in OPTIMIZERS.items() if not optimizer.takes_weight_decay]
"""Optimizers that take a momentum, and those that take no weight decay."""

RANKED_UNITS = tuple(unit for unit in UNITS if unit != "threshold")
"""Units of an amount that ranks weights; a threshold keeps them without a rank."""


@dataclass(frozen=True)
class Requirement:
    """A row of the table.

    Attributes:
        options: conditions; the row applies if the user set one of these options, even to its default value.
        message: the error message; `{options}` stands for the options that the user set, `{epochs}` for that option.
        needs: conditions, one of which must hold.
        excludes: conditions on other options; the user must not set any of these.
        where: a condition; the row applies only where it holds.
        is_harmless: the options have no effect without what they need. So they may stay in a recipe where `--set`
            takes away what they need.
    """

    options: tuple[str, ...]
    message: str
    needs: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    where: str = ""
    is_harmless: bool = False


REQUIREMENTS = (
    Requirement(
        TRAINING_OPTIONS,
        NOTHING_WITHOUT_TRAINING,
        needs=("epochs>0",),
        is_harmless=True,
    ),
    Requirement(
        ("seed",),
        f"{{options}} would do nothing here: give {{epochs}} or {{criterion}} {' or '.join(BY_CHANCE)} as well",
        needs=("epochs>0", *(f"criterion={name}" for name in BY_CHANCE)),
        is_harmless=True,
    ),
    Requirement(
        ("seed",),
        "{options} would do nothing here: give {epochs}, or {init} random or kmeans++, as well",
        needs=("epochs>0", "init=random", "init=kmeans++"),
        is_harmless=True,
    ),
    Requirement(
        ("momentum",),
        f"{{options}} would do nothing with this optimizer: give {{optimizer}} {' or '.join(WITH_MOMENTUM)} as well",
        needs=tuple(f"optimizer={name}" for name in WITH_MOMENTUM),
        is_harmless=True,
    ),
    *(
        Requirement(
            ("weight_decay",),
            f"{{optimizer}} {name} has no weight decay: leave {{options}} out",
            excludes=(f"optimizer={name}",),
        )
        for name in WITHOUT_WEIGHT_DECAY
    ),
    Requirement(
        ("patience",),
        "{options} would do nothing with this course of the learning rate: give {lr_schedule} plateau as well",
        needs=("lr_schedule=plateau",),
        is_harmless=True,
    ),
    Requirement(
        ("temperature", "alpha", "distill_loss", "distill_at"),
        "{options} would do nothing without a teacher: name its checkpoint in {distill}",
        needs=("distill",),
        is_harmless=True,
    ),
    *(
        Requirement(
            ("temperature",),
            f"{{distill_loss}} {name} takes no temperature, which softens classes: leave {{options}} out",
            excludes=(f"distill_loss={name}",),
        )
        for name in ("mse", "cosine")
    ),
    Requirement(
        ("distill_at",),
        "{compile} leaves no modules to watch: leave {options} out",
        excludes=("compile",),
    ),
    Requirement(
        ("lr_schedule=plateau",),
        "{options} goes by validation: give a {val_split} above 0",
        needs=("val_split>0",),
    ),
    Requirement(
        ("early_stop",),
        "{options} goes by validation: give a {val_split} above 0",
        needs=("val_split>0",),
    ),
    Requirement(
        ("min_epochs",),
        "{options} would do nothing without {early_stop}: give that as well",
        needs=("early_stop",),
        is_harmless=True,
    ),
    Requirement(
        tuple(f"criterion={name}" for name in BY_GRADIENTS),
        "{options} needs gradients, and so a network that retrains: give {epochs} as well",
        needs=("epochs>0",),
    ),
    Requirement(
        ("criterion=std",),
        "{options} prunes by a threshold: give {threshold} as well, like 1.0",
        needs=("threshold",),
    ),
    Requirement(
        ("threshold",),
        "{options} goes with criterion std: give {criterion} std as well",
        needs=("criterion=std",),
    ),
    Requirement(
        ("code_bits",),
        "{options} is for a budget of bytes: give {target_ratio} as well",
        needs=("target_ratio",),
        is_harmless=True,
    ),
    Requirement(
        ("rewind",),
        "{options} prunes once, before the network retrains: give {schedule} oneshot, and prune again for each round",
        needs=("schedule=oneshot", "mask"),
        where="epochs>0",
    ),
    Requirement(
        (
            *("sparsity", "count", "amount", "threshold", "target_ratio", "layer", "plan"),
            *("criterion", "scope", "structure", "schedule=gradual", "schedule=iterative", "schedule=uniform"),
            *("until", "every", "at"),
        ),
        "{mask} says which weights become zero, all in one move: leave {options} out",
        excludes=("mask",),
    ),
    *(
        Requirement((unit,), f"{{{unit}}} and {{{second}}} both set the amount: give one of them", excludes=(second,))
        for unit, second in combinations(RANKED_UNITS, 2)
        if (unit, second) != ("sparsity", "amount")  # there the sparsity is the most that the amount may reach
    ),
    Requirement(
        RANKED_UNITS,
        "{criterion} std takes {threshold}: leave {options} out",
        excludes=("criterion=std",),
    ),
    Requirement(
        ("scope",),
        "{criterion} std has a threshold for each layer: leave {options} out",
        excludes=("criterion=std",),
    ),
    *(
        Requirement(
            ("structure=row",),
            f"{{criterion}} {name} ranks single weights: leave {{options}} out",
            excludes=(f"criterion={name}",),
        )
        for name in BY_WEIGHT
    ),
    Requirement(
        ("layer", "plan", "scope=layer", "structure=row"),
        "{target_ratio} has all weights share one budget: leave {options} out",
        excludes=("target_ratio",),
    ),
    Requirement(
        ("count", "amount", "threshold", "structure=row"),
        "a plan holds sparsities of single weights: leave {options} out",
        excludes=("plan",),
    ),
    Requirement(
        ("scope=global",),
        "{structure} row ranks the rows of one layer: leave {options} out",
        excludes=("structure=row",),
    ),
    *(
        Requirement(
            ("rewind",),
            f"{{criterion}} {name} ranks weights while the network trains: leave {{options}} out",
            excludes=(f"criterion={name}",),
        )
        for name in BY_GRADIENTS
    ),
    Requirement(
        ("start", "until", "every"),
        "{at} lists all moves of the masks: leave {options} out",
        excludes=("at",),
    ),
    Requirement(
        ("until", "every"),
        "{schedule} oneshot moves the masks once, at start: leave {options} out",
        excludes=("schedule=oneshot",),
    ),
    Requirement(
        ("start", "at"),
        "{rewind} prunes once, before the network retrains: leave {options} out",
        excludes=("rewind",),
        where="epochs>0",
    ),
    Requirement(
        ("schedule=gradual", "schedule=uniform"),
        "{amount} sets the same part to zero at each move, as schedule iterative does: leave {options} out",
        excludes=("amount",),
    ),
)


def violations(
    settings: BaseModel,
    inherited: Collection[str] = (),
    overridden: Collection[str] = (),
    spell: Callable[[str], str] = str,
) -> Iterator[str]:
    """Yield the message of each row that settings violate.

    Args:
        settings: each field is valid by itself.
        inherited: fields that a section of a recipe has from the recipe itself; these may have no effect.
        overridden: fields that `--set` has written over those of a recipe.
        spell: returns the name of a field as the user writes it.
    """
    fields = set(type(settings).model_fields)
    names = {field: spell(field) for field in fields}
    for row in REQUIREMENTS:
        if not applies(row, fields) or (row.where and not _holds(settings, row.where)):
            continue
        set_fields = settings.model_fields_set - (set(inherited) if row.needs else set())
        if row.is_harmless and any(field_of(need) in overridden for need in row.needs):
            set_fields &= set(overridden)
        options = [option for option in row.options if _is_given(settings, option, set_fields)]
        is_refused = any(_is_given(settings, condition, set_fields) for condition in row.excludes)
        lacks_need = bool(row.needs) and not any(_holds(settings, need) for need in row.needs)
        if options and (is_refused or lacks_need):
            spelled = [" ".join([names[field_of(option)], *option.split("=")[1:]]) for option in options]
            yield row.message.format(**names, options=listed(spelled))


def listed(options: Sequence[str]) -> str:
    """Return options, of which there is at least one, as `A, B and C`."""
    *first, last = options
    return f"{', '.join(first)} and {last}" if first else last


def applies(row: Requirement, fields: Collection[str]) -> bool:
    """Return whether a class of settings with these fields has an option of a row, and all fields of its conditions."""
    conditions = (*row.needs, *row.excludes, *([row.where] if row.where else []))
    return any(field_of(option) in fields for option in row.options) and all(
        field_of(condition) in fields for condition in conditions
    )


def field_of(condition: str) -> str:
    """Return the field that a condition names."""
    return condition.partition("=")[0].removesuffix(">0")


def _is_given(settings: BaseModel, condition: str, set_fields: Collection[str]) -> bool:
    """Return whether the user set an option, and to the value that the condition names, if it names one."""
    return field_of(condition) in set_fields and _holds(settings, condition)


def _holds(settings: BaseModel, condition: str) -> bool:
    value = getattr(settings, field_of(condition))
    if condition.endswith(">0"):
        return bool(value > 0)
    _, names_value, wanted = condition.partition("=")
    return value == wanted if names_value else value not in (None, ()) and not _is_off(settings, condition)


def _is_off(settings: BaseModel, flag: str) -> bool:
    """Return whether a field is a flag that is off, as it is by default: that asks for nothing."""
    return getattr(settings, flag) is False and type(settings).model_fields[flag].default is False
