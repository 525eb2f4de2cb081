"""Where a network runs, and in which precision."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch

from dcomp.errors import UsageError, first_line
from dcomp.progress.observer import Observer
from dcomp.settings import Precision
from dcomp.system import cores

if TYPE_CHECKING:
    from dcomp.learning.trial import Trial

DEVICES = ("cpu", "cuda", "mps", "xpu")

SMALL_NETWORK = 10_000_000
"""Multiplications for one example, up to which one thread is enough: LeNet-5 has 2.3 million, VGG-16 on CIFAR 313."""

SHOWN_NOTES: set[str] = set()
"""Notes about threads that were shown: a run of several stages shows each once."""


def choose_device(name: str) -> torch.device:
    """Return the device of this name; `auto` is CUDA, else MPS, else the CPU.

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


def choose_threads(option: int | None, trial: "Trial", observer: Observer) -> None:
    """Set the number of threads: the option's, else the environment's (OMP_NUM_THREADS), else as many as are useful.

    A number that is chosen here is noted. Other devices than the CPU need none.

    Args:
        option: number of threads, if a person gave it.
        trial: of the network, on its device.
        observer: gets the note.
    """
    if option is not None:
        torch.set_num_threads(option)
        return
    if threads_are_chosen(option) or next(trial.model.parameters()).device.type != "cpu":
        return
    if trial.multiplications() <= SMALL_NETWORK:
        count, reason = 1, "enough for a small network"
    else:
        count = cores.free()
        reason = f"{count} of {cores.in_affinity()} processors {'is' if count == 1 else 'are'} free"
    torch.set_num_threads(count)
    text = f"{count} thread{' computes' if count == 1 else 's compute'}: {reason}; see --threads"
    if text not in SHOWN_NOTES:
        SHOWN_NOTES.add(text)
        observer.note(text)


def threads_are_chosen(option: int | None) -> bool:
    """Tell whether a person said how many threads compute, by option or environment."""
    return option is not None or bool(os.environ.get(cores.THREADS))


def restore_threads(count: int, option: int | None) -> None:
    """Set the number of threads of a stopped run, unless a person chose one, so that sums have the same bits."""
    if not threads_are_chosen(option):
        cores.take(count)
        torch.set_num_threads(count)


def in_precision(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return a context in which a network computes in `precision`; its weights stay float32."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, torch.bfloat16)


def check_compiler(device: torch.device) -> None:
    """Check with one sum that `torch.compile` works.

    Raises:
        UsageError: it does not.
    """
    try:
        torch.compile(lambda x: x + x)(torch.ones(8, device=device))
    except Exception as error:  # of a dozen private kinds
        raise UsageError(f"--compile does not work here ({first_line(error)}); leave it out") from error
