"""Seeds that follow from several numbers."""

import numpy as np


def mixed(*numbers: int) -> int:
    """Return one seed made from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
