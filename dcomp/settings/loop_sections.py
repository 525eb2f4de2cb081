"""Sections of a recipe that a person's own training loop gives as dictionaries: `prune` and `quantize`.

They have the keys of a recipe's sections without those of the loop, like the learning rate. A loop has no number of
epochs that is known before, so the times that depend on it must be given.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from dcomp.errors import UsageError
from dcomp.settings.base import Settings, mistakes
from dcomp.settings.compression import PruneSettings, QuantizeSettings
from dcomp.settings.learning import LearningSettings

Given = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
"""A section, or several, or none."""

KEYS_OF_THE_LOOP = set(LearningSettings.model_fields) - {"seed"}
"""Keys of a recipe's section that say how a network trains."""

REFUSED = {"rewind": "a loop does not go back: load the weights to rewind to into the model before it begins"}
"""Keys that cannot work in a loop that goes on, and why."""

S = TypeVar("S", bound=Settings)


def read(prune: Given, quantize: Given, *, in_steps: bool) -> tuple[list[PruneSettings], list[QuantizeSettings]]:
    """Return the settings of all sections.

    Args:
        prune: keys and values of `PruneSettings`, one section or a list of them.
        quantize: the same of `QuantizeSettings`.
        in_steps: whether times are steps, not epochs.

    Raises:
        UsageError: mistakes, all of them in one message.
    """
    messages: list[str] = []
    prune_settings = list(_valid(PruneSettings, "prune", prune, messages, in_steps))
    quantize_settings = list(_valid(QuantizeSettings, "quantize", quantize, messages, in_steps))
    if messages:
        raise UsageError("\n  ".join([f"{len(messages)} mistakes:", *messages]) if len(messages) > 1 else messages[0])
    return prune_settings, quantize_settings


def _valid(kind: type[S], name: str, given: Given, messages: list[str], in_steps: bool) -> Iterator[S]:
    """Yield the settings of the valid sections; add the mistakes of the others to the messages."""
    sections = [] if given is None else [given] if isinstance(given, Mapping) else given
    if isinstance(sections, str) or not isinstance(sections, Sequence):
        messages.append(f"{name}: give a dictionary, like dict(sparsity=0.9, until=10), or a list of them")
        return
    for number, section in enumerate(sections, 1):
        place = f"{name}.{number}" if len(sections) > 1 else name
        problems = _problems_of_keys(section, in_steps) if isinstance(section, Mapping) else []
        try:
            if isinstance(section, Mapping) and not problems:
                yield kind.model_validate({**section, "epochs": _epochs(section)})
                continue
            kind.model_validate(_without_loop(section))
        except ValidationError as error:
            problems += [(key, problem) for key, problem in mistakes(error, settings=kind) if key != "epochs"]
        messages += [f"{place}.{key}: {problem}" if key else f"{place}: {problem}" for key, problem in problems]
