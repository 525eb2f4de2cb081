"""Trained quantization: which weights share a value (paper, section 3). Pure functions on numpy arrays."""

from typing import Literal

Init = Literal["linear", "density", "random", "kmeans++", "optimal"]
"""Where k-means starts; see `kmeans.cluster`."""

MAX_BITS = 16
"""Codes take at most 16 bits: 65,536 shared values."""
