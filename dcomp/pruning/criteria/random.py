"""Keep weights by chance: the baseline for every other criterion."""

import numpy as np

from dcomp.pruning.criteria import Evidence, magnitude


def score(evidence: Evidence) -> np.ndarray:
    """Score each weight or row by its random number; zeros score zero."""
    assert evidence.chance is not None  # the table says that this criterion needs chance
    return np.where(magnitude.score(evidence) != 0, evidence.chance, 0)
