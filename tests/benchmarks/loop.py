"""Compare a plain PyTorch loop with `dcomp.torch.Compressor` to the stages prune and quantize, on LeNet-5 and MNIST.

    python tests/benchmarks/loop.py speed
    python tests/benchmarks/loop.py result FOLDER

`speed` prints the steps per second of the loop without and with a compressor, in turns. `result` prints bytes and test
errors: FOLDER is of `dcomp run sample_configs/lenet5-mnist.yaml`, whose dense network the loop begins with. $DCOMP_DATA
is the folder of MNIST.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dcomp.torch
from dcomp import sources, stages
from dcomp.learning import architectures, datasets
from dcomp.learning.evaluation import evaluate
from dcomp.learning.examples.images import ImageExamples
from dcomp.learning.task_data import TaskData
from dcomp.settings import DataSettings, EvalSettings

EPOCHS, SHARED_EPOCHS, BATCH = 30, 3, 64
ROUNDS, STEPS = 15, 40


def main() -> None:
    """Read the arguments and run one of the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", choices=["speed", "result"])
    parser.add_argument("folder", type=Path, nargs="?")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.comparison == "speed":
        compare_speed()
    elif arguments.folder is None:
        sys.exit("result needs the folder of a run")
    else:
        compare_result(arguments.folder)


def compare_speed() -> None:
    """Print the median steps per second of each loop, and its overhead against the loop without a compressor."""
    images, labels = torch.randn(BATCH, 1, 28, 28), torch.randint(0, 10, (BATCH,))
    sections = {
        "no compressor": None,
        "pruned": {"prune": {"sparsity": 0.92, "schedule": "oneshot"}},
        "pruned and shared": {
            "prune": {"sparsity": 0.92, "schedule": "oneshot"},
            "quantize": {"conv_bits": 8, "fc_bits": 5},
        },
        "shared": {"quantize": {"conv_bits": 8, "fc_bits": 5}},
    }
    loops = {name: _Loop(given) for name, given in sections.items()}
    for loop in loops.values():
        loop.steps(images, labels, 5)
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(ROUNDS):
        for name, loop in loops.items():
            began = time.process_time()
            loop.steps(images, labels, STEPS)
            rates[name].append(STEPS / (time.process_time() - began))
    plain = statistics.median(rates["no compressor"])
    for name, of_loop in rates.items():
        rate = statistics.median(of_loop)
        print(f"{name:20} {rate:6.1f} steps/s  {100 * (plain / rate - 1):+5.1f} %")


class _Loop:
    """LeNet-5, its optimizer, and a compressor if there are sections for one."""

    def __init__(self, sections: dict[str, dict[str, object]] | None) -> None:
        torch.manual_seed(0)
        self.model = architectures.build("lenet5", {})
        self.optimizer = _optimizer(self.model)
        if sections is not None:
            self.compressor = dcomp.torch.Compressor(self.model, self.optimizer, **sections)

    def steps(self, images: Tensor, labels: Tensor, count: int) -> None:
        """Take so many steps."""
        for _ in range(count):
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(images), labels).backward()
            self.optimizer.step()


def compare_result(folder: Path) -> None:
    """Print bytes and test error of the folder's container, and of a network that a plain loop has compressed."""
    data = TaskData.of(datasets.load("mnist"), "mnist", DataSettings())
    train, _ = data.split_validation(0.08, 0)
    assert isinstance(train, ImageExamples)  # of MNIST
    dense = sources.load_checkpoint(folder / "train.safetensors")
    model = architectures.build("lenet5", {})
    architectures.load_into(model, dense, "lenet5")
    print(f"dense                {evaluate(model, data.test).judged:.2f} %")
    optimizer = _optimizer(model)
    steps = -(-len(train) // BATCH)
    compressor = dcomp.torch.Compressor(
        model,
        optimizer,
        steps_per_epoch=steps,
        prune={"sparsity": 0.92, "until": 10},
        quantize={"conv_bits": 8, "fc_bits": 5, "start": EPOCHS},
    )
    total = steps * (EPOCHS + SHARED_EPOCHS)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    for epoch in range(EPOCHS + SHARED_EPOCHS):
        model.train()
        for images, labels in _batches(train.split, epoch):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            rate.step()
        error = evaluate(model, data.test).judged
        print(f"epoch {epoch + 1}: {compressor.phase}, {error:.2f} %", file=sys.stderr, flush=True)
    compressor.finish()
    file = folder / "loop.dcz"
    compressor.save(file, dict(dense.metadata), overwrite=True)
    for name, path in (("prune, quantize", folder / "model.dcz"), ("plain loop", file)):
        result = stages.evaluate(sources.load_checkpoint(path), EvalSettings(data="mnist"))
        print(f"{name:20} {path.stat().st_size:,} bytes, {result.judged:.2f} %")


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of dcomp's stages, by default."""
    return torch.optim.SGD(model.parameters(), 0.02, momentum=0.9, nesterov=True, weight_decay=0.0005, fused=True)


def _batches(train: datasets.Split, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of an epoch, in an order of its own."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(epoch)).split(BATCH)
    for images, labels in train.batches(order):
        yield train.preprocessing.test(images), labels


if __name__ == "__main__":
    main()
