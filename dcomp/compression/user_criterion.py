"""A criterion of the user's own: a function named as `package.module:function`.

It takes the weights of one tensor, and returns a score for each. A function with a second argument takes the mean
squared gradients of the weights as well, and so ranks only while a network retrains.
"""

import inspect
from collections.abc import Callable

import numpy as np

from dcomp.errors import UsageError
from dcomp.learning.factories import failing, find_function
from dcomp.pruning.criteria import CRITERIA, Criterion, Evidence

Function = Callable[..., object]


def find(name: str) -> Criterion:
    """Return the criterion of this name: of the table `CRITERIA`, else of the user's code.

    Raises:
        UsageError: no such function, or it takes other arguments.
    """
    if name in CRITERIA:
        return CRITERIA[name]
    function = find_function(name, UsageError, "use criterion")
    count = _required_arguments(name, function)

    def score(evidence: Evidence) -> np.ndarray:
        arrays = [_readable(evidence.weights)]
        if count == 2:
            assert evidence.squared_gradients is not None  # this criterion needs gradients
            arrays.append(_readable(evidence.squared_gradients))
        with failing(name, UsageError, "use criterion"):
            scores = np.asarray(function(*arrays))
        _check(name, scores, evidence.weights)
        return np.where(evidence.weights != 0, scores, 0)

    return Criterion(score, needs_gradients=count == 2)


def _required_arguments(name: str, function: Function) -> int:
    """Return how many arguments a function takes that have no default: 1 or 2.

    Raises:
        UsageError: another number, or it is no function.
    """
    count = 1  # of a function that does not tell, like some of numpy's
    if callable(function):
        try:
            parameters = inspect.signature(function).parameters.values()
        except ValueError:
            return count
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        count = sum(each.kind in positional and each.default is each.empty for each in parameters)
    if not callable(function) or count not in (1, 2):
        raise UsageError(
            f"cannot use criterion {name}: it should be a function of the weights, or of the weights and their mean "
            f"squared gradients, {f'not of {count} arguments' if callable(function) else 'and is none'}"
        )
    return count


def _readable(array: np.ndarray) -> np.ndarray:
    """Return an array in single precision at least, which the user's code cannot change."""
    readable = array.astype(np.float32) if array.dtype.itemsize < 4 else array.view()
    readable.flags.writeable = False
    return readable


def _check(name: str, scores: np.ndarray, weights: np.ndarray) -> None:
    """Raise UsageError unless scores are numbers of the weights' shape, finite and not negative."""
    problem = ""
    if scores.shape != weights.shape:
        problem = f"shape {scores.shape}"
    elif scores.dtype.kind not in "fiu":
        problem = f"values of type {scores.dtype}, which are no real numbers"
    elif not np.isfinite(scores).all():
        problem = "values that are not finite"
    elif (scores < 0).any():
        problem = "negative values"
    if problem:
        raise UsageError(
            f"criterion {name} returns {problem} for weights of shape {weights.shape}: return one score for each "
            "weight, 0 or more; the largest are kept"
        )
