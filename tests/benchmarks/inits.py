"""Where k-means starts, at equal bytes; `python tests/benchmarks/inits.py lenet300.pruned.safetensors 2,3,4,5,6 3`.

The arguments are a pruned checkpoint that records its data, which `$DCOMP_DATA` holds; numbers of bits; epochs. A line
of CSV for each: squared error over the sum of squares, bytes of the container without metadata and test error in
percent, without training and after the epochs (at 0 epochs nothing is trained or tested). At the end, the squared error
over that of `optimal`, interpolated at the bytes that `optimal` takes with so many bits.
"""

import io
import sys
from pathlib import Path
from typing import get_args

import numpy as np

from dcomp import stages
from dcomp.checkpoints import safetensors_file
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.quantization import Init
from dcomp.settings import EvalSettings, QuantizeSettings


def squared_error(dense: Checkpoint, shared: Checkpoint) -> float:
    """The squared error of all tensors that changed, over the sum of their squares."""
    pairs = [(dense.tensors[name].astype(np.float64), array) for name, array in shared.tensors.items()]
    changed = [(before, after) for before, after in pairs if not np.array_equal(before, after)]
    return sum(((a - b) ** 2).sum() for a, b in changed) / sum((a**2).sum() for a, _ in changed)


def size(stage_result: Checkpoint) -> int:
    """Bytes of the container without metadata."""
    file = io.BytesIO()
    stages.encode(Checkpoint(stage_result.tensors), file)
    return len(file.getvalue())


def figures(pruned: Checkpoint, bits: int, init: Init, epochs: int) -> tuple[int, float, str]:
    """Bytes and squared error without training, and a line of all that was measured."""
    options = {"bits": bits, "init": init}
    shared = stages.quantize(pruned, QuantizeSettings(**options))
    nbytes, error = size(shared), squared_error(pruned, shared)
    line = f"{bits},{init},{error:.5f},{nbytes}"
    if epochs:
        trained = stages.quantize(pruned, QuantizeSettings(**options, epochs=epochs))
        errors = [stages.evaluate(stage_result, EvalSettings()).judged for stage_result in (shared, trained)]
        line += f",{errors[0]:.2f},{size(trained)},{errors[1]:.2f}"
    return nbytes, error, line


def main() -> None:
    pruned = safetensors_file.load_file(Path(sys.argv[1]))
    numbers, epochs = [int(bits) for bits in sys.argv[2].split(",")], int(sys.argv[3])
    print("bits,init,squared_error,bytes,error,trained_bytes,trained_error")
    curves: dict[Init, list[tuple[int, float]]] = {init: [] for init in get_args(Init)}
    for bits in numbers:
        for init, curve in curves.items():
            nbytes, error, line = figures(pruned, bits, init, epochs)
            curve.append((nbytes, error))
            print(line, flush=True)
    places, best = zip(*curves["optimal"], strict=True)
    for init, curve in curves.items():
        sizes, errors = zip(*curve, strict=True)
        ratios = np.exp(np.interp(places, sizes, np.log(errors), np.nan, np.nan)) / best
        print(init, *(f"{ratio:.2f}" for ratio in ratios))


if __name__ == "__main__":
    main()
