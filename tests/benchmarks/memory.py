"""Peak memory of encode and decode on a checkpoint of 2 GB; `python tests/benchmarks/memory.py`, with 5 GB of disk."""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

TENSORS, ELEMENTS = 8, 64 << 20
BOUND = 150e6 + 4 * 4 * ELEMENTS


def tensors() -> dict[str, np.ndarray]:
    """Free floats; pruned and shared; pruned; shared."""
    rng = np.random.default_rng(0)
    weights = {}
    for number in range(TENSORS):
        floats = rng.standard_normal(ELEMENTS, dtype=np.float32)
        chance = rng.random(ELEMENTS, dtype=np.float32)
        codes = rng.integers(1, 33, ELEMENTS, np.int8).astype(np.float32)
        kinds = (floats, np.where(chance < 0.09, codes, 0), np.where(chance < 0.5, floats, 0), codes)
        weights[f"w{number}"] = kinds[number % 4].astype(np.float32, copy=False).reshape(8192, -1)
    return weights


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("m.safetensors", "m.dcz", "back.safetensors")]
        save_file(tensors(), files[0])
        for command, source, target in (("encode", *files[:2]), ("decode", *files[1:])):
            arguments = [sys.executable, "-m", "dcomp", command, source, "-o", target, "-q"]
            child = os.spawnv(os.P_NOWAIT, sys.executable, arguments)
            _, status, usage = os.wait4(child, 0)
            assert status == 0
            print(f"{command}: peak {usage.ru_maxrss * 1024 / 1e6:,.0f} MB, bound {BOUND / 1e6:,.0f} MB")
        assert Path(files[0]).read_bytes() == Path(files[2]).read_bytes()


if __name__ == "__main__":
    main()
