"""Patterns -> values in the smallest of their forms (FORMAT.md, section 4.2)."""

import numpy as np

from dcomp.coding import tuning
from dcomp.coding.codebook import IndexedValues
from dcomp.coding.level import Level
from dcomp.coding.lookup import lookup
from dcomp.coding.raw import Raw
from dcomp.coding.shared import Shared
from dcomp.coding.value_forms import FORMS
from dcomp.coding.values import Values
from dcomp.coding.zstd import Zstd


def smallest_free(patterns: np.ndarray, dtype: np.dtype, level: Level) -> Values:
    """Encode patterns, shape (m,), that share no codebook, in their smallest form."""
    best: Values = Raw(patterns)
    if patterns.size == 0:
        return best
    for form in FORMS.values():
        best = form.smaller(patterns, dtype, best.nbytes, level) or best
    return best


def smallest_shared(indexed: IndexedValues, dtype: np.dtype, level: Level, follows: np.ndarray | None = None) -> Values:
    """Encode values that share a codebook in their smallest form, with the codebook or without.

    Args:
        indexed: the codebook and the code of each value, shape (m,), m > 0.
        dtype: of the elements.
        level: how hard to try.
        follows: whether each value is the neighbour of the one before; all are if absent. Shape (m,).
    """
    shared = Shared.encode(indexed, dtype, level, follows)
    count = indexed.codes.size
    is_heavy = indexed.codebook.nbytes > tuning.HEAVY_CODEBOOK * shared.nbytes
    saves_much = shared.nbytes < (1 - tuning.HEAVY_CODEBOOK) * count * dtype.itemsize
    if saves_much and not is_heavy and count > tuning.SAMPLE_SIZE and not level.exhaustive:
        return shared
    patterns = lookup(indexed.codebook, indexed.codes)
    if is_heavy or not saves_much or level.exhaustive:
        free = smallest_free(patterns, dtype, level)
        return shared if shared.nbytes <= free.nbytes else free
    return Zstd.smaller(patterns, dtype, shared.nbytes, level) or shared  # planes know less of each value than codes
