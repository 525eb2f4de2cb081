"""Where a network runs, and in which precision."""

import os
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dcomp.errors import UsageError, first_line
from dcomp.progress.observer import Observer
from dcomp.settings import Precision
from dcomp.system import cores

DEVICES = ("cpu", "cuda", "mps", "xpu")

SMALL = 10_000_000
"""Multiplications for one image, up to which one thread is enough: LeNet-5 has 2.3 million, VGG-16 on CIFAR 313."""

_told: set[str] = set()  # a run of several stages says once what it chose


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA, else MPS, else the CPU.

    Raises:
        UsageError: torch has no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        if torch.device(name).type not in DEVICES:
            raise UsageError(f"--device {name}: give one of auto, {', '.join(DEVICES)}")
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {name}: not available here; try auto or cpu") from error


def choose_threads(asked: int | None, model: nn.Module, images: Tensor, observer: Observer) -> None:
    """Compute with as many threads as were asked for, else with as many as pay, and say how many those are.

    What the environment says (OMP_NUM_THREADS) holds, and a device that is no CPU needs no choice.

    Args:
        asked: number of threads, if a person gave it.
        model: on its device.
        images: one image, as the network takes it.
        observer: told what was chosen.
    """
    if asked is not None:
        torch.set_num_threads(asked)
        return
    if threads_are_given(asked) or images.device.type != "cpu":
        return
    if multiplications(model, images) <= SMALL:
        count, reason = 1, "enough for a small network"
    else:
        count = cores.free()
        reason = f"{count} of {cores.in_affinity()} processors {'is' if count == 1 else 'are'} free"
    torch.set_num_threads(count)
    text = f"{count} thread{' computes' if count == 1 else 's compute'}: {reason}; see --threads"
    if text not in _told:
        _told.add(text)
        observer.note(text)


def threads_are_given(asked: int | None) -> bool:
    """Tell whether a person said how many threads compute, by option or environment."""
    return asked is not None or bool(os.environ.get(cores.THREADS))


def go_on_with_threads(count: int, asked: int | None) -> None:
    """Compute with as many threads as before a stop, unless a person says how many: so sums come to the same bits."""
    if not threads_are_given(asked):
        cores.take(count)
        torch.set_num_threads(count)


def multiplications(model: nn.Module, images: Tensor) -> float:
    """Count the multiplications of convolutions and matrix products for these images; infinite where torch cannot."""
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            model.eval()(images)
    except Exception:  # the network takes these images: it is the counter that fails
        return float("inf")
    return counter.get_total_flops() / 2


def in_precision(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """A block in which a network computes in `precision`; its weights stay float32."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, torch.bfloat16)


def check_compiler(device: torch.device) -> None:
    """See on one sum that `torch.compile` finds the compiler that it needs.

    Raises:
        UsageError: it does not.
    """
    try:
        torch.compile(lambda x: x + x)(torch.ones(8, device=device))
    except Exception as error:  # of a dozen private kinds
        raise UsageError(f"--compile does not work here ({first_line(error)}); leave it out") from error
