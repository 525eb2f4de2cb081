"""One training by several processes, as `torchrun` starts them: gloo between CPUs, NCCL between GPUs.

Every process holds the whole network and the whole data set. Of each batch it takes its part, and the gradient is the
mean over the whole batch, so the parameters, masks and codebooks of all processes are the same after every step.
"""

import atexit
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dcomp.errors import DcompError
from dcomp.system.ranks import IS_FIRST, RANK, WORLD_SIZE

PATIENCE = timedelta(hours=12)
"""How long processes wait for each other, as for the first to decode a data set; torchrun sees those that die."""


def join(device: torch.device) -> torch.device:
    """Meet the other processes, if there are any; the device that is this process's own."""
    if WORLD_SIZE == 1:
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", RANK)))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
        atexit.register(dist.destroy_process_group)
    return device


@contextmanager
def first_goes_ahead() -> Iterator[None]:
    """A block that the first process is through before the others enter it, as for a download.

    Raises:
        DcompError: in the others, if it failed in the first, which tells why.
    """
    if WORLD_SIZE == 1 or not dist.is_initialized():
        yield
        return
    on_gpu = dist.get_backend() == "nccl"
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    if not IS_FIRST and any_of(False, device):
        raise DcompError("the first process has failed")
    try:
        yield
    except Exception:
        if IS_FIRST:
            any_of(True, device)
        raise
    if IS_FIRST:
        any_of(False, device)


def part_of(indices: Tensor) -> tuple[Tensor, float]:
    """This process's part of a batch, and how much more than the mean part it is.

    DistributedDataParallel takes the mean of the processes' gradients; with each loss times this weight that is the
    gradient of the whole batch's mean loss. Who gets no example takes one of another's, at weight 0.
    """
    if WORLD_SIZE == 1:
        return indices, 1.0
    own = indices.tensor_split(WORLD_SIZE)[RANK]
    weight = WORLD_SIZE * len(own) / len(indices)
    return (own, weight) if len(own) else (indices[:1], 0.0)


def span_of(count: int) -> range:
    """This process's part of so many examples."""
    return range(count * RANK // WORLD_SIZE, count * (RANK + 1) // WORLD_SIZE)


def parallel(model: nn.Module) -> nn.Module:
    """What to call for logits in training: the model, or what averages its gradients over the processes.

    Networks begin alike in every process, from one seed or one file, and masks move alike: nothing has to be sent.
    """
    if WORLD_SIZE == 1:
        return model
    with warnings.catch_warnings():  # newer torch calls broadcast_buffers otherwise
        warnings.simplefilter("ignore", FutureWarning)
        return nn.parallel.DistributedDataParallel(model, broadcast_buffers=False, init_sync=False)


def synchronized(model: nn.Module) -> nn.Module:
    """The model with batch normalization over the whole batch, where torch can do that: on GPUs."""
    on_gpu = next(model.parameters()).device.type == "cuda"
    return nn.SyncBatchNorm.convert_sync_batchnorm(model) if WORLD_SIZE > 1 and on_gpu else model


def agree_on_statistics(model: nn.Module) -> None:
    """Give every process the first one's running statistics, which follow from its own parts of the batches."""
    if WORLD_SIZE > 1:
        for buffer in model.buffers():
            if buffer.is_floating_point():
                dist.broadcast(buffer, 0)


def totals(numbers: Sequence[float], device: torch.device) -> list[float]:
    """The sums over all processes."""
    if WORLD_SIZE == 1:
        return list(numbers)
    sums = torch.tensor(numbers, dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    return [float(value) for value in sums.tolist()]


def any_of(flag: bool, device: torch.device) -> bool:
    """Whether it is so in any process."""
    return flag if WORLD_SIZE == 1 else totals([flag], device)[0] > 0


def gathered(own: Tensor, device: torch.device) -> list[Tensor]:
    """The tensors of all processes, which are alike in shape."""
    if WORLD_SIZE == 1:
        return [own]
    found = [torch.empty_like(own, device=device) for _ in range(WORLD_SIZE)]
    dist.all_gather(found, own.to(device))
    return [tensor.cpu() for tensor in found]
