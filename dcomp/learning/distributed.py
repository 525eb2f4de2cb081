"""One training by several processes, as `torchrun` starts them: gloo between CPUs, NCCL between GPUs.

Every process has all of the network and of the data set. It takes its part of each batch, and the gradient is the
mean over the batch, so the parameters, masks and codebooks of all processes are the same after every step.
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

TIMEOUT = timedelta(hours=12)
"""How long processes wait for each other, as while the first decodes photos; torchrun ends those that fail."""


def join(device: torch.device) -> torch.device:
    """Connect with the other processes, if there are any, and return the device of this one."""
    if WORLD_SIZE == 1:
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", RANK)))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
        atexit.register(dist.destroy_process_group)
    return device


@contextmanager
def first_goes_ahead() -> Iterator[None]:
    """Let the first process finish a block before the others enter it, as for a download.

    Raises:
        DcompError: in the others, if the first failed; its own error says why.
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
    """Return this process's part of a batch, and the weight of its loss.

    The weight is the size of the part over the mean size. DistributedDataParallel takes the mean of the processes'
    gradients; with these weights that is the gradient of the batch's mean loss. A process whose part is empty takes
    the first example, at weight 0.
    """
    if WORLD_SIZE == 1:
        return indices, 1.0
    part = indices.tensor_split(WORLD_SIZE)[RANK]
    weight = WORLD_SIZE * len(part) / len(indices)
    return (part, weight) if len(part) else (indices[:1], 0.0)


def span_of(count: int) -> range:
    """Return the range of `count` examples that this process evaluates."""
    return range(count * RANK // WORLD_SIZE, count * (RANK + 1) // WORLD_SIZE)


def parallel(model: nn.Module) -> nn.Module:
    """Return the module that gives logits in training: the model, or one that averages gradients over the processes.

    Networks are the same in every process at first, from one seed or one file, and so are all masks: none is sent.
    """
    if WORLD_SIZE == 1:
        return model
    with warnings.catch_warnings():  # newer torch calls broadcast_buffers otherwise
        warnings.simplefilter("ignore", FutureWarning)
        return nn.parallel.DistributedDataParallel(model, broadcast_buffers=False, init_sync=False)


def synchronized(model: nn.Module) -> nn.Module:
    """Return the model with batch normalization over all of a batch, where torch can do that: on GPUs."""
    on_gpu = next(model.parameters()).device.type == "cuda"
    return nn.SyncBatchNorm.convert_sync_batchnorm(model) if WORLD_SIZE > 1 and on_gpu else model


def agree_on_statistics(model: nn.Module) -> None:
    """Give every process the running statistics of the first, which come from its parts of the batches."""
    if WORLD_SIZE > 1:
        for buffer in model.buffers():
            if buffer.is_floating_point():
                dist.broadcast(buffer, 0)


def totals(numbers: Sequence[float], device: torch.device) -> list[float]:
    """Return the sums over all processes."""
    if WORLD_SIZE == 1:
        return list(numbers)
    sums = torch.tensor(numbers, dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    return [float(value) for value in sums.tolist()]


def any_of(flag: bool, device: torch.device) -> bool:
    """Tell whether the flag is set in any process."""
    return flag if WORLD_SIZE == 1 else totals([flag], device)[0] > 0


def gathered(tensor: Tensor, device: torch.device) -> list[Tensor]:
    """Return the tensors of all processes, which have one shape."""
    if WORLD_SIZE == 1:
        return [tensor]
    tensors = [torch.empty_like(tensor, device=device) for _ in range(WORLD_SIZE)]
    dist.all_gather(tensors, tensor.to(device))
    return [received.cpu() for received in tensors]
