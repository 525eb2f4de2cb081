"""Local response normalization across channels (Krizhevsky et al. 2012), fast on every device.

    y = x * s^(-3/4),   s = k + alpha / size * (sum of x^2 over the `size` channels around)

The sum over neighbours is a product with a banded matrix of ones, which suits channels-last images; the power is two
square roots. All steps go over one block of pixels before the next, in the same buffers: to a CPU, fresh memory costs
more than the arithmetic. In AlexNet that takes a sixth of the time of torch's own, which pools over a fifth dimension.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

BLOCK = 1 << 21
"""Elements in a block on a CPU; other devices take all at once. Smaller blocks fit in the cache of one core and are
a little faster, but wait for all threads so often that another program on the machine makes them many times slower."""


class LocalResponseNorm(nn.Module):
    """As `torch.nn.LocalResponseNorm` with beta 0.75."""

    def __init__(self, size: int = 5, alpha: float = 1e-4, k: float = 1.0) -> None:
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.k = k

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # its blocks would be unrolled
    def forward(self, x: Tensor) -> Tensor:
        """Return normalized activations, of the shape (n, c, height, width) and dtype of the input."""
        with torch.autocast(x.device.type, enabled=False):
            return _Normalize.apply(x, self.size, self.alpha, self.k)  # type: ignore[no-untyped-call]  # as torch has it


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int, alpha: float, k: float) -> Tensor:
        rows = x.movedim(1, -1)
        ctx.save_for_backward(x)
        ctx.constants = size, alpha, k
        out = torch.empty_like(rows, memory_format=torch.contiguous_format)
        work = _Blocks(rows, size, alpha, k)
        for block, result in zip(work.split(rows), work.split(out), strict=True):
            torch.mul(block, work.scale(block), out=result)
        return out.movedim(-1, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return dx = g * s^(-3/4) - x * (sum around of 2 * 3/4 * alpha / size * g * x * s^(-7/4))."""
        (x,) = ctx.saved_tensors
        size, alpha, k = ctx.constants
        rows, gradients = x.movedim(1, -1), gradient.movedim(1, -1)
        out = torch.empty_like(rows, memory_format=torch.contiguous_format)
        work = _Blocks(rows, size, alpha, k)
        band = work.band * 1.5
        product, around = work.buffer(rows.dtype), work.buffer(rows.dtype)
        for block, upper, result in zip(work.split(rows), work.split(gradients), work.split(out), strict=True):
            n = len(block)
            with torch.autocast(x.device.type, enabled=False):
                scale = work.scale(block)
                torch.mul(block, upper, out=product[:n]).mul_(work.steep(n))
                torch.mm(product[:n], band, out=around[:n])
                torch.mul(upper, scale, out=result).addcmul_(block, around[:n], value=-1)
        return out.movedim(-1, 1), None, None, None


class _Blocks:
    """Pixels, as rows of channels, a block at a time, and the buffers that all blocks use."""

    def __init__(self, rows: Tensor, size: int, alpha: float, k: float) -> None:
        self._channels = rows.shape[-1]
        self._like = rows
        everything = max(1, rows.numel() // self._channels)
        self._rows = min(everything, max(1, BLOCK // self._channels)) if rows.device.type == "cpu" else everything
        self._k = k
        channel = torch.arange(self._channels, device=rows.device)
        near = (channel[:, None] - channel).abs() <= size // 2
        self.band = near.to(rows.dtype) * (alpha / size)
        exact = torch.promote_types(rows.dtype, torch.float32)  # 1 + 2e-5 * sum would be lost in bfloat16
        self._square, self._around = self.buffer(rows.dtype), self.buffer(rows.dtype)
        self._scale, self._steep = self.buffer(rows.dtype), self.buffer(rows.dtype)
        self._root, self._power = self.buffer(exact), self.buffer(exact)

    def buffer(self, dtype: torch.dtype) -> Tensor:
        """Return memory for one block."""
        return self._like.new_empty((self._rows, self._channels), dtype=dtype)

    def split(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """Return the blocks of (n, height, width, c), each of shape (rows, c); views where memory allows it."""
        return tensor.reshape(-1, self._channels).split(self._rows)

    def scale(self, block: Tensor) -> Tensor:
        """Return s^(-3/4) for a block, in a buffer that the next call overwrites."""
        n = len(block)
        torch.mul(block, block, out=self._square[:n])
        torch.mm(self._square[:n], self.band, out=self._around[:n])
        root = self._root[:n].copy_(self._around[:n]).add_(self._k).rsqrt_()
        power = torch.sqrt(root, out=self._power[:n]).mul_(root)
        return self._scale[:n].copy_(power)

    def steep(self, n: int) -> Tensor:
        """Return s^(-7/4) for the block of `n` rows of the last call of `scale`."""
        root = self._root[:n]
        return self._steep[:n].copy_(self._power[:n].mul_(root).mul_(root))
