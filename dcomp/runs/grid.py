"""The grid of a sweep: a recipe at every combination of values, and the stages that its points have in common.

A *point* is a recipe with one value for each key that differs. A *branch* is a set of points whose recipes have the
same first stages, which need to run only once.
"""

import hashlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dcomp.errors import RecipeError, several
from dcomp.settings.recipe import Recipe, load, split_override

MAX_POINTS = 1000
MAX_NAME = 150
"""Characters of a point's name, which names a folder."""

PAIRS = {"[": "]", "{": "}"}
QUOTES = ("'", '"')


@dataclass(frozen=True)
class GridPoint:
    """A recipe of the grid.

    Attributes:
        name: the values in which it differs from the other points, as the name of a folder.
        values: these values as text, by key.
        recipe: validated, with a section eval.
    """

    name: str
    values: dict[str, str]
    recipe: Recipe


@dataclass(frozen=True)
class Branch:
    """Points whose recipes have the same first stages.

    Attributes:
        points: at least one.
        last: the last stage that the points have in common; None for a single point.
        branches: the points again, in groups that have more stages in common.
    """

    points: tuple[GridPoint, ...]
    last: str | None = None
    branches: tuple["Branch", ...] = ()


def points(path: Path, overrides: Iterable[str], fixed: Sequence[str] = ()) -> list[GridPoint]:
    """Read a recipe at every combination of values.

    Args:
        path: the recipe.
        overrides: `key=value,value,...`; a single value is for all points.
        fixed: overrides with one value each, in which commas do not separate values.

    Raises:
        RecipeError: mistakes in the grid, or in the recipes, all of them in one message.
    """
    axes = _axes(overrides)
    grid_points: list[GridPoint] = []
    points_of_mistake: dict[str, list[str]] = {}
    for combination in itertools.product(*axes.values()):
        values = dict(zip(axes, combination, strict=True))
        differing = {key: value for key, value in values.items() if len(axes[key]) > 1}
        try:
            recipe = _recipe_at(path, [*fixed, *(f"{key}={value}" for key, value in values.items())])
            grid_points.append(GridPoint(name_of(differing), differing, recipe))
        except RecipeError as error:
            points_of_mistake.setdefault(str(error), []).append(name_of(differing))
    _raise_mistakes(points_of_mistake, math.prod(map(len, axes.values())))
    return grid_points


def _axes(overrides: Iterable[str]) -> dict[str, list[str]]:
    """Return the values of each key.

    Raises:
        RecipeError: there is only one combination of values, or there are too many.
    """
    axes: dict[str, list[str]] = {}
    for override in overrides:
        key, values = _axis(override)
        if key in axes:
            raise RecipeError(f"--set {override}: {key} is set twice")
        axes[key] = values
    count = math.prod(map(len, axes.values()))
    if count == 1:
        raise RecipeError("a sweep needs two values of a key, as in --set prune.sparsity=0.97,0.98")
    if count > MAX_POINTS:
        raise RecipeError(f"the grid has {count:,} points, and a sweep has at most {MAX_POINTS:,}: give fewer values")
    return axes


def _axis(override: str) -> tuple[str, list[str]]:
    """Split an override into a key and its values."""
    key, text = split_override(override)
    try:
        values = split_values(text)
    except ValueError as error:
        raise RecipeError(f"--set {override}: {error}") from error
    if len(values) > 1 and not all(values):
        raise RecipeError(f"--set {override}: there is no value before or after a comma")
    if repeated := [value for value, count in Counter(values).items() if count > 1]:
        raise RecipeError(f"--set {override}: {repeated[0]} occurs twice")
    return key, values


def _recipe_at(path: Path, overrides: Sequence[str]) -> Recipe:
    """Read the recipe of one point, which needs a section eval."""
    recipe = load(path, overrides)
    if recipe.eval is None:
        raise RecipeError(f"the recipe {path} has no section eval, so no errors to compare: add eval: {{}}")
    return recipe


def _raise_mistakes(points_of_mistake: Mapping[str, Sequence[str]], count: int) -> None:
    """Raise a RecipeError with all mistakes; a mistake that not all points have is given with its points."""
    texts = [
        mistake if len(names) == count else f"at {names[0]}{_and_more(names)}: {mistake}"
        for mistake, names in points_of_mistake.items()
    ]
    if len(texts) > 1:
        raise RecipeError(several("the grid", texts))
    if texts:
        raise RecipeError(texts[0])


def _and_more(names: Sequence[str]) -> str:
    return f" and {len(names) - 1:,} more points" if len(names) > 1 else ""


def split_values(text: str) -> list[str]:
    """Split a text at its commas, except for those within brackets and quotes.

    Raises:
        ValueError: brackets or quotes that do not close.
    """
    values, value, closing = [], "", ""
    for letter in text:
        if letter == "," and not closing:
            values.append(value.strip())
            value = ""
            continue
        if letter == closing[-1:]:
            closing = closing[:-1]
        elif closing[-1:] not in QUOTES and letter in PAIRS:
            closing += PAIRS[letter]
        elif closing[-1:] not in QUOTES and letter in QUOTES and (closing or not value.strip()):  # else an apostrophe
            closing += letter
        value += letter
    if closing:
        raise ValueError(f"{closing[-1]} is missing")
    return [*values, value.strip()]


def name_of(values: dict[str, str]) -> str:
    """Return `key=value,key=value` as the name of a folder; if characters must be replaced, a hash is added."""
    text = ",".join(f"{key}={value}" for key, value in values.items())
    name = re.sub(r"[^\w.,=+-]", "_", text)[:MAX_NAME]
    return name if name == text else f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def branches(points: Sequence[GridPoint], depth: int = 0) -> tuple[Branch, ...]:
    """Group points, which agree in the first `depth` stages, by the stage after those."""
    groups: dict[Hashable, list[GridPoint]] = {}
    for point in points:
        stages = _stages(point.recipe)
        groups.setdefault(stages[depth] if depth < len(stages) else point.name, []).append(point)
    return tuple(_branch(group, depth) for group in groups.values())


def _branch(points: Sequence[GridPoint], depth: int) -> Branch:
    """Make a branch of points that agree in the stage after the first `depth`."""
    if len(points) == 1:
        return Branch(tuple(points))
    stages = [_stages(point.recipe) for point in points]
    common = sum(1 for _ in itertools.takewhile(lambda stage: len(set(stage)) == 1, zip(*stages, strict=False)))
    last, *_ = stages[0][common - 1]
    return Branch(tuple(points), last, branches(points, common))


def _stages(recipe: Recipe) -> list[tuple[str, Hashable, Hashable]]:
    """Return name, settings and start of each stage: where they are equal, points share the stage's checkpoint."""
    start = (recipe.checkpoint, recipe.architecture)
    return [(stage, settings, start) for stage, settings in recipe.sections]
