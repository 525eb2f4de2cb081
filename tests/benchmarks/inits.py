"""Where k-means starts, at equal bits; `python tests/benchmarks/inits.py lenet300.pruned.safetensors 2,3,4,5 3`.

The arguments are a pruned checkpoint of dcomp's, that records its data; bits; epochs. MNIST is in `$DCOMP_DATA`.
A line of CSV for each init and number of bits: squared error over the sum of squares, the bytes of the container and
the test error in percent, without training and after the epochs.
"""

import io
import sys
from pathlib import Path
from typing import get_args

import numpy as np

from dcomp import checkpoint, stages
from dcomp.checkpoint import Checkpoint
from dcomp.quantization import Init
from dcomp.settings import EvalSettings, QuantizeSettings


def squared_error(dense: Checkpoint, shared: Checkpoint) -> float:
    """The squared error of all tensors that changed, over the sum of their squares."""
    pairs = [(dense.tensors[name].astype(np.float64), array) for name, array in shared.tensors.items()]
    changed = [(before, after) for before, after in pairs if not np.array_equal(before, after)]
    return sum(((a - b) ** 2).sum() for a, b in changed) / sum((a**2).sum() for a, _ in changed)


def cost(made: Checkpoint) -> tuple[int, float]:
    """Bytes without metadata, and the test error in percent."""
    file = io.BytesIO()
    stages.encode(Checkpoint(made.tensors), file)
    return len(file.getvalue()), stages.evaluate(made, EvalSettings(data="mnist")).top1_error


def main() -> None:
    pruned = checkpoint.load_file(Path(sys.argv[1]))
    numbers, epochs = [int(bits) for bits in sys.argv[2].split(",")], int(sys.argv[3])
    print("bits,init,squared_error,bytes,error,trained_bytes,trained_error")
    for bits in numbers:
        for init in get_args(Init):
            asked = {"conv_bits": bits, "fc_bits": bits, "init": init, "data": "mnist"}
            shared = stages.quantize(pruned, QuantizeSettings(**asked))
            trained = stages.quantize(pruned, QuantizeSettings(**asked, epochs=epochs))
            nbytes, error = cost(shared)
            trained_bytes, trained_error = cost(trained)
            figures = f"{squared_error(pruned, shared):.5f},{nbytes},{error:.2f},{trained_bytes},{trained_error:.2f}"
            print(f"{bits},{init},{figures}", flush=True)


if __name__ == "__main__":
    main()
