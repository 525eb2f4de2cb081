"""Which tensors of a checkpoint a rule speaks of.

A checkpoint holds names and arrays, no modules, so a tensor's *kind* is read from its shape:

- `conv`    three or more dimensions: a convolution's kernels
- `linear`  two dimensions: a fully connected layer's matrix
- `bias`    one dimension: biases, and the scales and shifts of normalization layers

A *rule* `REGEX=VALUE` gives a value of its own to each tensor whose name the regular expression finds.
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from dcomp.errors import UsageError

if TYPE_CHECKING:
    import numpy as np  # the command line needs the rules, and starts without numpy

FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})
"""The dtypes that weights come in: those that `prune` and `quantize` change."""

STATISTICS = ("running_mean", "running_var")
"""Endings of what batch normalization measures and does not learn."""

Kind = Literal["conv", "linear", "bias"]
KINDS: tuple[Kind, ...] = get_args(Kind)
WEIGHTS: tuple[Kind, ...] = ("conv", "linear")

Aliases = tuple[str, ...]
"""The names of one tensor, several where weights are tied. The first stands for all; expressions may find any."""


def kind_of(name: str, array: "np.ndarray") -> Kind | None:
    """The kind of a weight tensor; None for integers, scalars, empty tensors and running statistics."""
    if array.dtype.name not in FLOATS or array.ndim == 0 or array.size == 0 or name.endswith(STATISTICS):
        return None
    return {1: "bias", 2: "linear"}.get(array.ndim, "conv")  # type: ignore[return-value]  # the literals are Kinds


def select(tensors: "Mapping[str, np.ndarray]", kinds: Iterable[Kind]) -> list[str]:
    """Names of the tensors of the given kinds, in the checkpoint's order."""
    wanted = set(kinds)
    return [name for name, array in tensors.items() if kind_of(name, array) in wanted]


def output_of(tensors: "Mapping[str, np.ndarray]") -> str | None:
    """The name of the layer that gives a network's answers, as far as names and shapes tell; None if there is no layer.

    That is the last matrix whose rows no other layer takes as its columns; where all do, the last matrix. A network of
    convolutions alone has its last one for it.
    """
    weights = {name: tensors[name].shape for name in select(tensors, WEIGHTS)}
    layers = [name for name, shape in weights.items() if len(shape) == 2] or list(weights)
    taken = {name: {shape[1] for other, shape in weights.items() if other != name} for name in layers}
    return next(reversed([name for name in layers if weights[name][0] not in taken[name]] or layers), None)


def chosen(
    found: Sequence[Aliases], only: Sequence[str], skip: Sequence[str], others: Collection[str] = ()
) -> list[Aliases]:
    """The tensors that one of the expressions `only` finds, all if there are none, and none of `skip`.

    Raises:
        UsageError: none is left, or an expression finds none of the names, which are listed, and none of `others`.
    """
    for pattern in (*only, *skip):
        if not any(finds(pattern, names) for names in (*found, others)):
            raise _no_layer(pattern, found)
    left = [names for names in found if not only or any(finds(pattern, names) for pattern in only)]
    left = [names for names in left if not any(finds(pattern, names) for pattern in skip)]
    if found and not left:
        raise UsageError(f"only and skip leave none of the layers {_listed(found)}")
    return left


@dataclass(frozen=True)
class Rule:
    """A value for the tensors whose name `pattern` finds."""

    pattern: re.Pattern[str]
    value: float

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """Read `REGEX=VALUE`; the last `=` separates, so the expression may contain others.

        Raises:
            UsageError: no `=`, an expression that does not compile, or a value that is no number.
        """
        regex, separator, value = text.rpartition("=")
        if not separator or not regex:
            raise UsageError(f"{text!r} is not of the form REGEX=VALUE, as in 'fc1=0.95'")
        try:
            rule = cls(re.compile(regex), float(value))
        except re.error as error:
            raise UsageError(f"{regex!r} in {text!r} is not a regular expression: {error}") from error
        except ValueError as error:
            raise UsageError(f"{value!r} in {text!r} is not a number") from error
        if not math.isfinite(rule.value):
            raise UsageError(f"{value!r} in {text!r} is not a finite number")
        return rule


def apply_rules(tensors: Sequence[Aliases], rules: Iterable[Rule], others: Collection[str] = ()) -> dict[str, float]:
    """The value that the rules give to each tensor, by its first name; where two rules meet, the later one holds.

    Raises:
        UsageError: a rule that finds none of the names, which are listed, and none of `others`.
    """
    values: dict[str, float] = {}
    for rule in rules:
        found = [names[0] for names in tensors if finds(rule.pattern, names)]
        if not found and not finds(rule.pattern, others):
            raise _no_layer(rule.pattern.pattern, tensors)
        values.update(dict.fromkeys(found, rule.value))
    return values


def finds(pattern: str | re.Pattern[str], names: Iterable[str]) -> bool:
    """Whether an expression finds one of the names."""
    return any(re.search(pattern, name) for name in names)


def _no_layer(pattern: str, tensors: Iterable[Aliases]) -> UsageError:
    return UsageError(f"no layer matches {pattern!r}; there are {_listed(tensors) or 'none'}")


def _listed(tensors: Iterable[Aliases]) -> str:
    return ", ".join(name for names in tensors for name in names)


def listed(names: Sequence[str]) -> str:
    """Return the first three names, and how many more there are, for a note of one line."""
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")
