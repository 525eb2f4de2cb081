"""Sections of a recipe that come from a person's own training loop, as dictionaries: `prune` and `quantize`.

They have the keys of a recipe's sections but those of the loop, like the learning rate. Nothing says how many epochs
the loop has, so times that depend on that number must be given.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from dcomp.errors import UsageError, several
from dcomp.settings.base import SHORT, Settings, mistakes
from dcomp.settings.compression import PruneSettings, QuantizeSettings
from dcomp.settings.learning import LearningSettings

Section = Mapping[str, Any]
Sections = Section | Sequence[Section] | None
"""One section, several, or none."""

OF_LOOP = [key for key in LearningSettings.model_fields if key != "seed"]  # which pruning draws by, too
"""Keys of a recipe's section that are for the training loop."""

REFUSED = {
    **dict.fromkeys(OF_LOOP, "your loop does that: leave it out"),
    "provenance": "save takes the metadata of a file: leave it out",
    "mask": "the compressor holds zeros: set what the file prunes to zero in the model before it begins",
    "rewind": "a loop does not go back: load the weights to rewind to into the model before it begins",
}
"""Keys of a recipe's section that a loop's has not, and why."""

Mistakes = list[tuple[str, str]]
"""Keys and messages."""

S = TypeVar("S", bound=Settings)


def read(prune: Sections, quantize: Sections, *, in_steps: bool) -> tuple[list[PruneSettings], list[QuantizeSettings]]:
    """Return the settings of all sections.

    Args:
        prune: sections with the keys of `PruneSettings`.
        quantize: sections with the keys of `QuantizeSettings`.
        in_steps: whether times are steps, not epochs.

    Raises:
        UsageError: mistakes, all of them in one message.
    """
    problems: Mistakes = []
    prunes = list(_read_all(PruneSettings, "prune", prune, problems, in_steps=in_steps))
    quantizes = list(_read_all(QuantizeSettings, "quantize", quantize, problems, in_steps=in_steps))
    lines = [f"{key}: {problem}" for key, problem in problems]
    if len(lines) == 1:
        raise UsageError(lines[0])
    if lines:
        raise UsageError(several("the compressor", lines))
    return prunes, quantizes


def _read_all(kind: type[S], name: str, given: Sections, problems: Mistakes, *, in_steps: bool) -> Iterator[S]:
    """Yield the settings of the sections without mistakes; add the mistakes of the others."""
    sections = [given] if isinstance(given, Mapping) else given or []
    is_list = isinstance(sections, list | tuple)
    if not is_list or not all(isinstance(section, Mapping) for section in sections):
        example = "dict(sparsity=0.9, until=10)" if kind is PruneSettings else "dict(bits=5, start=10)"
        problems.append((name, f"give a dictionary, like {example}, or a list of them, not {SHORT.repr(given)}"))
        return
    for number, section in enumerate(sections, 1):
        place = name if len(sections) == 1 else f"{name}.{number}"
        here = [(key, REFUSED[key]) for key in section if key in REFUSED]
        here += _missing_times(section, in_steps=in_steps) if kind is PruneSettings else []
        wanted = {key: value for key, value in section.items() if key not in REFUSED}
        try:
            settings = kind.model_validate({**wanted, "epochs": int(_last_time(section)) + 1})
            if not here:
                yield settings
        except ValidationError as error:
            here += mistakes(error, settings=kind)
        problems += [(f"{place}.{key}" if key else place, problem) for key, problem in here]


def _missing_times(section: Section, *, in_steps: bool) -> Mistakes:
    """Return the keys that say when masks move, and have no default in a loop."""
    if section.get("schedule") == "oneshot" or section.get("at") is not None:
        return []
    if section.get("until") is None:
        hint = "like until=10, or list all moves in at, or give schedule oneshot"
        return [("until", f"nothing says how long your loop trains: give the time of the last move, {hint}")]
    if in_steps and section.get("every") is None:
        return [("every", "times are steps, as there is no steps_per_epoch: give the steps between moves, like 100")]
    return []


def _last_time(section: Section) -> float:
    """Return the last of the times in a section; what is no number is left to its check."""
    listed = section.get("at")
    moves = listed if isinstance(listed, list | tuple) else str(listed).split(",")
    return max([0.0, *map(_number, (section.get("start"), section.get("until"), *moves))])


def _number(value: object) -> float:
    """Return a finite number from 0 on; 0 for anything else."""
    try:
        number = float(str(value))
    except ValueError:
        return 0.0
    return number if 0 <= number < float("inf") else 0.0
