"""Writes golden files that are missing, and what they hold as safetensors; one that exists is never replaced.

Run it as `python tests/golden/make.py`. The tests read its files and never run it.
"""

from pathlib import Path

import ml_dtypes
import numpy as np

import dcomp
from dcomp.checkpoints import safetensors_file
from dcomp.checkpoints.checkpoint import Checkpoint


def tensors_of() -> dict[str, dict[str, np.ndarray]]:
    """What each golden file holds."""
    rng = np.random.default_rng(1510_00149)
    pruned = np.zeros(5000, np.float32)
    kept = rng.random(5000) < 0.08
    pruned[kept] = rng.choice(np.array([-0.5, -0.25, 0.25, 0.75], np.float32), kept.sum())
    floats = rng.normal(size=400).astype(np.float32)
    walk = np.cumsum(rng.integers(-2, 3, 6000)).reshape(60, 100) % 37 + 1
    density = np.outer(rng.choice([0.02, 0.5], 60), rng.choice([0.1, 1], 100))
    runs = np.repeat(rng.random((10, 60)) < 0.2, 10, axis=0)
    return {
        "format-example": {"w": np.array([0, 0, 1.5, 0, 0, 0, -2, 1.5, 0, 0, 0, 0, 1.5, 0], np.float32)},
        "forms": {
            "planes": floats,
            "raw": rng.integers(0, 256, 99, np.uint8),
            "zstd": np.tile(rng.integers(0, 256, 300, np.uint8), 3),
            "zstd in planes": np.arange(1000, dtype=np.int32),
            "shared in many blocks": rng.integers(0, 3, 9000).astype(np.int8),
            "shared": rng.choice(np.array([1, 2, 3], np.float16), (20, 30)),
            "pruned": np.where(rng.random(400) < 0.1, floats, np.float32(0)),
            "pruned and shared": pruned.reshape(50, 100),
            "all zero": np.zeros((7, 11), ml_dtypes.bfloat16),
            "one value": np.full(1000, np.nan, np.float64),
            "codebook in planes": rng.choice(floats[:150], 2000),
            "empty": np.zeros((3, 0), np.int8),
            "scalar": np.array(-0.0, np.float32),
            "chained": walk.astype(np.float16),
            "chained, apart": np.where(rng.random(walk.shape) < 0.7, walk, 0).astype(np.float32),
            "in pairs": (rng.random(3000) < 0.1).astype(np.uint8),
            "in classes": np.where(rng.random(walk.shape) < density, rng.choice([-1, 1, 2], walk.shape), 0).astype(
                np.int16
            ),
            "columns first": np.where(runs, rng.choice([-1, 1, 2], runs.shape), 0).astype(np.float32),
            "few, in a Golomb code": np.where(rng.random(4000) < 0.01, 1, 0).astype(np.float64),
            "tied": floats.copy(),
        },
        "bits": {
            "widened": rng.normal(size=40_000).astype(np.float16).astype(np.float32),
        },
    }


METADATA = {"dcomp.architecture": "lenet300", "ключ": "wert"}

if __name__ == "__main__":
    for name, tensors in tensors_of().items():
        path = Path(__file__).parent / f"{name}.dcz"
        if not path.exists():
            metadata = METADATA if name == "forms" else {}
            dcomp.save_file(tensors, path, metadata)
            with path.with_suffix(".safetensors").open("wb") as file:
                safetensors_file.save(Checkpoint(tensors, metadata), file)
            print(path)
