"""Where a network runs, and in which precision."""

from contextlib import AbstractContextManager, nullcontext

import torch

from dcomp.errors import UsageError, first_line
from dcomp.settings import Precision

DEVICES = ("cpu", "cuda", "mps", "xpu")


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
