"""Size and speed of the codec on a generated AlexNet beside zstd; `python tests/benchmarks/codec.py`.

Each speed is the best of some runs, and is given as a ratio against zstd in the same run.
"""

import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from checkpoints import alexnet

import dcomp
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.coding import huffman, sparse_index
from dcomp.container import writer
from dcomp.container.reader import Container
from dcomp.reporting import benchmark

RUNS = 5


def order_0(tensors: dict[str, np.ndarray]) -> float:
    """Bytes of the entropy of codes, and of gaps at the best width, with codebooks and biases as they are."""
    total = 0.0
    for array in tensors.values():
        gaps, kept = sparse_index.scan(array.reshape(-1).view(np.uint32))
        codebook, codes = np.unique(kept, return_inverse=True)
        if array.ndim == 1:
            total += array.nbytes
            continue
        gap_counts = sparse_index.occurrences_of(gaps)
        letters = [sparse_index.letter_counts(*gap_counts, (1 << width) - 1) for width in range(1, 13)]
        widths = [huffman.entropy_bits(counts) for counts in letters]
        total += codebook.nbytes + (huffman.entropy_bits(np.bincount(codes)) + min(widths)) / 8
    return total


def best(work):
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def written(tensors, workers=1):
    buffer = io.BytesIO()
    writer.write(Checkpoint(tensors), buffer, workers=workers)
    return buffer.getvalue()


def main() -> None:
    tensors = alexnet()
    rows = {row.codec: row for row in benchmark.measure_codecs(Checkpoint(tensors), [3], 3)}
    ours, zstd = rows["dcz"], rows["zstd -3"]
    print(f"bytes: {ours.bytes:,}; zstd -3: {zstd.bytes:,}")
    print(f"bytes over order-0 entropy, codebooks and biases: {ours.bytes / order_0(tensors):.4f}")
    print(f"decode, over zstd -3: {ours.decompress / zstd.decompress:.2f}x")
    print(f"encode, over zstd -3: {ours.compress / zstd.compress:.2f}x")
    print(f"encode with 2 processes, over 1: {best(lambda: written(tensors)) / best(lambda: written(tensors, 2)):.2f}x")

    rng = np.random.default_rng(0)
    large = rng.choice(np.array([0, 0, 0, 0, -1, 1, 2], np.float32), 2_000_000)
    one, thousand = written({"w": large}), written({f"w{i}": part for i, part in enumerate(np.split(large, 1000))})
    decode_ratio = best(lambda: Container(thousand).decode()) / best(lambda: Container(one).decode())
    print(f"decode of 1,000 tensors, over one of as many elements: {decode_ratio:.1f}x the time")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.dcz"
        dcomp.save_file({"w": large[:8000]}, path)
        command = [sys.executable, "-m", "dcomp", "decode", str(path), "-f", "-q"]
        seconds = best(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
        print(f"decode of a file of {path.stat().st_size:,} bytes, as a whole process: {seconds:.2f} s")


if __name__ == "__main__":
    main()
