"""The layers of a checkpoint: kinds of tensors, and rules that choose tensors by name.

A checkpoint has names and arrays but no modules, so a tensor's shape decides its *kind*:

- `conv`    three or more dimensions: a convolution's kernels
- `linear`  two dimensions: a fully connected layer's matrix
- `bias`    one dimension: biases, and the scales and shifts of normalization layers

A *rule* `REGEX=VALUE` gives a value to each tensor in whose name the regular expression matches somewhere.
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
"""The dtypes of weights, which `prune` and `quantize` change."""

STATISTICS = ("running_mean", "running_var")
"""Ends of the names of tensors that batch normalization measures and does not learn."""

Kind = Literal["conv", "linear", "bias"]
KINDS: tuple[Kind, ...] = get_args(Kind)
WEIGHTS: tuple[Kind, ...] = ("conv", "linear")

Aliases = tuple[str, ...]
"""The names of one tensor, several where weights are tied. The first one names it; a rule may match any of them."""


def kind_of(name: str, array: "np.ndarray") -> Kind | None:
    """Return the kind of a weight tensor; None for integers, scalars, empty tensors and running statistics."""
    if array.dtype.name not in FLOATS or array.ndim == 0 or array.size == 0 or name.endswith(STATISTICS):
        return None
    return {1: "bias", 2: "linear"}.get(array.ndim, "conv")  # type: ignore[return-value]  # the literals are Kinds


def select(tensors: "Mapping[str, np.ndarray]", kinds: Iterable[Kind]) -> list[str]:
    """Return the names of the tensors of some kinds, in the checkpoint's order."""
    kinds = set(kinds)
    return [name for name, array in tensors.items() if kind_of(name, array) in kinds]


def output_of(tensors: "Mapping[str, np.ndarray]") -> str | None:
    """Return the name of a network's output layer, as its names and shapes suggest; None if there is no layer.

    It is the last matrix whose number of rows is no other layer's number of columns. If there is none, it is the last
    matrix, or the last convolution in a network without matrices.
    """
    weights = {name: tensors[name].shape for name in select(tensors, WEIGHTS)}
    layers = [name for name, shape in weights.items() if len(shape) == 2] or list(weights)
    inputs = {name: {shape[1] for input_name, shape in weights.items() if input_name != name} for name in layers}
    return next(reversed([name for name in layers if weights[name][0] not in inputs[name]] or layers), None)


def chosen(
    tensors: Sequence[Aliases], only: Sequence[str], skip: Sequence[str], more_names: Collection[str] = ()
) -> list[Aliases]:
    """Choose tensors by name.

    Args:
        tensors: the names of each.
        only: regular expressions, one of which must match; without any, all tensors are chosen.
        skip: regular expressions of which none may match.
        more_names: other names that an expression may match; they are not chosen.

    Raises:
        UsageError: no tensor is left, or an expression matches no name.
    """
    for pattern in (*only, *skip):
        if not any(matches_any(pattern, names) for names in (*tensors, more_names)):
            raise _no_layer(pattern, tensors)
    remaining = [names for names in tensors if not only or any(matches_any(pattern, names) for pattern in only)]
    remaining = [names for names in remaining if not any(matches_any(pattern, names) for pattern in skip)]
    if tensors and not remaining:
        raise UsageError(f"only and skip choose none of the layers {_all_names(tensors)}")
    return remaining


@dataclass(frozen=True)
class Rule:
    """A value for the tensors whose name `pattern` matches somewhere."""

    pattern: re.Pattern[str]
    value: float

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """Read `REGEX=VALUE`; the last `=` separates, so the expression may contain others.

        Raises:
            UsageError: there is no `=`, the expression does not compile, or the value is no number.
        """
        regex, separator, value = text.rpartition("=")
        if not separator or not regex:
            raise UsageError(f"{text!r} is not of the form REGEX=VALUE, like 'fc1=0.95' (a sparsity) or 'fc1=5' (bits)")
        try:
            rule = cls(re.compile(regex), float(value))
        except re.error as error:
            raise UsageError(f"{regex!r} in {text!r} is not a regular expression: {error}") from error
        except ValueError as error:
            raise UsageError(f"{value!r} in {text!r} is not a number") from error
        if not math.isfinite(rule.value):
            raise UsageError(f"{value!r} in {text!r} is not a finite number")
        return rule


def apply_rules(
    tensors: Sequence[Aliases], rules: Iterable[Rule], more_names: Collection[str] = ()
) -> dict[str, float]:
    """Return the value of each tensor, by its first name; the last rule that matches a tensor counts.

    Raises:
        UsageError: a rule matches neither a tensor nor one of `more_names`.
    """
    values: dict[str, float] = {}
    for rule in rules:
        matches = [names[0] for names in tensors if matches_any(rule.pattern, names)]
        if not matches and not matches_any(rule.pattern, more_names):
            raise _no_layer(rule.pattern.pattern, tensors)
        values.update(dict.fromkeys(matches, rule.value))
    return values


def matches_any(pattern: str | re.Pattern[str], names: Iterable[str]) -> bool:
    """Return whether a regular expression matches somewhere in one of the names."""
    return any(re.search(pattern, name) for name in names)


def _no_layer(pattern: str, tensors: Iterable[Aliases]) -> UsageError:
    return UsageError(f"no layer matches {pattern!r}; there are {_all_names(tensors) or 'none'}")


def _all_names(tensors: Iterable[Aliases]) -> str:
    return ", ".join(name for names in tensors for name in names)


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return the first `most` names, and how many more there are, for a note of one line."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
