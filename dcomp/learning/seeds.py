"""Seeds that follow from several numbers, and the generators that a user's code draws from."""

import random

import numpy as np


def mixed(*numbers: int) -> int:
    """Return one seed made from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def seed_numpy_and_python(seed: int) -> None:
    """Seed the generators of numpy and Python that code without one of its own draws from."""
    np.random.seed(seed % (1 << 32))
    random.seed(seed)
