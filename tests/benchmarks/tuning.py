"""Bytes with less and with more of each tuned constant of the encoder; `python tests/benchmarks/tuning.py`.

Constants are set to half and to double, exponents and lengths one lower and one higher. The set is small: pruned,
shared, uneven, half-size and free weights, 1.6 million elements, at the level default, or max where only that one uses
the constant. Names as arguments restrict the constants.
"""

import re
import sys
from pathlib import Path

import ml_dtypes
import numpy as np

from dcomp.coding import encoder, tuning
from dcomp.coding.level import LEVELS
from dcomp.coding.limits import MAX_CODE_LENGTH

BY_ONE = {"SMALLEST_BLOCK_EXPONENT", "LONGEST_CODE", "LONGEST_PAIR_CODE", "SMALL_FRAME_LEVEL", "PROBE_LEVEL"}
LEFT_OUT = {"PROBE_WINDOW"}  # decides in frames that are larger than this set
ONLY_MAX = {
    *("SLIGHT_UNEVENNESS", "MAX_CLASSES_ANYWAY", "BAND_ELEMENTS", "BAND_ROWS"),
    *("SURE_NOISE_BITS", "PROBE_LEVEL", "PROBE_MARGIN"),
}


def arrays(rng: np.random.Generator) -> list[np.ndarray]:
    """Weights as they come out of training, pruning and sharing."""
    shape = (400, 500)
    free = (0.02 * rng.standard_normal(shape)).astype(np.float32)
    kept = rng.random(shape)
    shared = rng.choice(np.sort(rng.normal(size=32)).astype(np.float32), shape)
    density = np.outer(rng.choice([0.03, 0.2, 0.6], shape[0]), rng.choice([0.3, 1], shape[1]))
    walk = (np.cumsum(rng.integers(-1, 2, shape), axis=1) % 50 + 1).astype(np.float32)
    runs = np.repeat(rng.random((40, 500)) < 0.2, 10, axis=0)
    small = np.where(rng.random((60, 70)) < 0.1, rng.choice([-1, 1, 2, 3], (60, 70)), 0).astype(np.float32)
    return [
        free,
        free.astype(ml_dtypes.bfloat16),
        np.where(kept < 0.08, shared, 0),
        np.where(kept < 0.9, shared, 0),
        np.where(kept < density, shared, 0),
        np.where(runs, shared, 0),
        np.where(np.repeat(rng.random((400, 50)) < 0.4, 10, axis=1), walk, 0),
        np.where(kept < 0.3, free, 0),
        small,
        rng.choice(rng.normal(size=700).astype(np.float32), 20_000),
    ]


def constants() -> list[str]:
    """Names of the constants on which bytes depend."""
    source = Path(tuning.__file__).read_text()
    of_bytes = source[source.index("# Streams (*bytes*)") :]
    names = [name for line in re.findall(r"^([A-Z_, ]+) = ", of_bytes, re.MULTILINE) for name in line.split(", ")]
    return [name for name in names if name not in LEFT_OUT and not isinstance(getattr(tuning, name), tuple)]


def size(of: list[np.ndarray], level: str) -> int:
    return sum(encoder.encode_tensor(array, LEVELS[level]).nbytes for array in of)


def main() -> None:
    of = arrays(np.random.default_rng(0))
    today = {level: size(of, level) for level in ("default", "max")}
    print(", ".join(f"{level}: {nbytes:,} bytes" for level, nbytes in today.items()))
    for name in sys.argv[1:] or constants():
        value, level = getattr(tuning, name), "max" if name in ONLY_MAX else "default"
        changes = []
        less, more = (value - 1, min(value + 1, MAX_CODE_LENGTH)) if name in BY_ONE else (value / 2, value * 2)
        for changed in (less, more):
            setattr(tuning, name, type(value)(changed))
            changes.append(size(of, level) / today[level] - 1)
        setattr(tuning, name, value)
        print(f"{name}: less {changes[0]:+.3%}, more {changes[1]:+.3%}", flush=True)


if __name__ == "__main__":
    main()
