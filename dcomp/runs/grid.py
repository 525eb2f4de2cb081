"""The grid of a sweep: a recipe at every combination of some values, and what its points have in common.

A *point* is a recipe with one value for each key that differs. A *branch* is a set of points whose recipes agree up
to some stage, which so needs to run once.
"""

import hashlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dcomp.errors import RecipeError
from dcomp.settings.recipe import Recipe, load, parted

MAX_POINTS = 1000
MAX_NAME = 150
"""Characters of a point's name, which names a folder."""

PAIRS = {"[": "]", "{": "}"}
QUOTES = ("'", '"')


@dataclass(frozen=True)
class GridPoint:
    """A recipe of the grid.

    Attributes:
        name: what it differs in from the other points, as a folder may be called.
        values: the same, as text, by key.
        recipe: validated, with a section eval.
    """

    name: str
    values: dict[str, str]
    recipe: Recipe


@dataclass(frozen=True)
class Branch:
    """Points whose recipes agree up to the stage `last`, and where they part; None for a point that is alone."""

    points: tuple[GridPoint, ...]
    last: str | None = None
    branches: tuple["Branch", ...] = ()


def points(path: Path, overrides: Iterable[str], fixed: Sequence[str] = ()) -> list[GridPoint]:
    """Read a recipe at every combination of values.

    Args:
        path: the recipe.
        overrides: `key=value,value,...`; the values of a key that has only one hold for all points.
        fixed: overrides whose commas separate nothing.

    Raises:
        RecipeError: mistakes in the grid, or in the recipes, all of them in one message.
    """
    axes: dict[str, list[str]] = {}
    for override in overrides:
        key, values = _axis(override)
        if key in axes:
            raise RecipeError(f"--set {override}: {key} is set twice")
        axes[key] = values
    count = math.prod(map(len, axes.values()))
    if count == 1:
        raise RecipeError("a sweep needs values to go through, as in --set prune.sparsity=0.97,0.98")
    if count > MAX_POINTS:
        raise RecipeError(f"the grid has {count:,} points, and {MAX_POINTS:,} at most make a sweep: give fewer values")
    found: list[GridPoint] = []
    mistakes: dict[str, list[str]] = {}
    for combination in itertools.product(*axes.values()):
        chosen = dict(zip(axes, combination, strict=True))
        differing = {key: value for key, value in chosen.items() if len(axes[key]) > 1}
        try:
            recipe = load(path, [*fixed, *(f"{key}={value}" for key, value in chosen.items())])
            if recipe.eval is None:
                raise RecipeError(f"the recipe {path} has no section eval, so no errors to compare: add eval: {{}}")
            found.append(GridPoint(name_of(differing), differing, recipe))
        except RecipeError as error:
            mistakes.setdefault(str(error), []).append(name_of(differing))
    told = [_told(mistake, names, count) for mistake, names in mistakes.items()]
    if len(told) > 1:
        raise RecipeError("\n  ".join([f"the grid has {len(told):,} mistakes:", *told]))
    if told:
        raise RecipeError(told[0])
    return found


def _axis(override: str) -> tuple[str, list[str]]:
    """A key and its values."""
    key, text = parted(override)
    try:
        values = split(text)
    except ValueError as error:
        raise RecipeError(f"--set {override}: {error}") from error
    if len(values) > 1 and not all(values):
        raise RecipeError(f"--set {override}: there is no value before or after a comma")
    if twice := [value for value, count in Counter(values).items() if count > 1]:
        raise RecipeError(f"--set {override}: {twice[0]} occurs twice")
    return key, values


def _told(mistake: str, names: Sequence[str], count: int) -> str:
    """A mistake, and where it is if it isn't in all points."""
    if len(names) == count:
        return mistake
    others = f" and {len(names) - 1:,} more points" if len(names) > 1 else ""
    return f"at {names[0]}{others}: {mistake}"


def split(text: str) -> list[str]:
    """The values between commas; those within brackets and quotes separate nothing.

    Raises:
        ValueError: brackets or quotes that do not close.
    """
    values, value, awaited = [], "", ""
    for letter in text:
        if letter == "," and not awaited:
            values.append(value.strip())
            value = ""
            continue
        if letter == awaited[-1:]:
            awaited = awaited[:-1]
        elif awaited[-1:] not in QUOTES and letter in PAIRS:
            awaited += PAIRS[letter]
        elif awaited[-1:] not in QUOTES and letter in QUOTES and (awaited or not value.strip()):  # else an apostrophe
            awaited += letter
        value += letter
    if awaited:
        raise ValueError(f"{awaited[-1]} is missing")
    return [*values, value.strip()]


def name_of(values: dict[str, str]) -> str:
    """A name that folders may have, as near to `key=value,key=value` as that allows."""
    text = ",".join(f"{key}={value}" for key, value in values.items())
    name = re.sub(r"[^\w.,=+-]", "_", text)[:MAX_NAME]
    return name if name == text else f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def branches(points: Sequence[GridPoint], depth: int = 0) -> tuple[Branch, ...]:
    """Part points, that agree in the first `depth` stages, by what they go on with."""
    groups: dict[Hashable, list[GridPoint]] = {}
    for point in points:
        stages = _stages(point.recipe)
        groups.setdefault(stages[depth] if depth < len(stages) else point.name, []).append(point)
    return tuple(_branch(group, depth) for group in groups.values())


def _branch(points: Sequence[GridPoint], depth: int) -> Branch:
    if len(points) == 1:
        return Branch(tuple(points))
    stages = [_stages(point.recipe) for point in points]
    common = sum(1 for _ in itertools.takewhile(lambda alike: len(set(alike)) == 1, zip(*stages, strict=False)))
    last, *_ = stages[0][common - 1]
    return Branch(tuple(points), last, branches(points, common))


def _stages(recipe: Recipe) -> list[tuple[str, Hashable, Hashable]]:
    """Name and settings of each stage, and what the first one starts from: what decides about their checkpoints."""
    start = (recipe.checkpoint, recipe.architecture)
    return [(stage, settings, start) for stage, settings in recipe.sections]
