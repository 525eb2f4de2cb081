"""A callback that prunes and shares weights while a Lightning Trainer trains them.

>>> from dcomp.torch.lightning import CompressorCallback
>>> callback = CompressorCallback(prune=dict(sparsity=0.9, until=5), quantize=dict(bits=5, start=6), output="net.dcz")

`lightning.Trainer(max_epochs=8, callbacks=[callback])` does the rest.
"""

import math
from typing import Any

import torch

from dcomp.errors import UsageError
from dcomp.learning import vision  # noqa: F401  # before Lightning, which imports a torchvision of any build
from dcomp.torch.callbacks import LoopCallback

try:
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging
except ImportError as error:
    raise UsageError("dcomp.torch.lightning needs Lightning: pip install 'dcomp[lightning]'") from error

AVERAGING = (StochasticWeightAveraging, WeightAveraging)
"""Callbacks that replace a module's weights by averages when training ends."""


class CompressorCallback(LoopCallback, pl.Callback):
    """Prune and share the weights of a LightningModule, and log `sparsity` and `dcz_bytes` once an epoch.

    The Trainer's checkpoints hold the compressor's state, so that `fit(..., ckpt_path=...)` goes on where they were.
    """

    _restored: dict[str, Any] | None = None  # the state of a checkpoint, until training begins

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Hang a compressor on the optimizer; model and optimizer are restored by now."""
        listed: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by a connector
        if any(isinstance(callback, AVERAGING) for callback in listed[listed.index(self) :]):
            raise UsageError(
                "list CompressorCallback after the callback that averages weights, to compress the average"
            )
        state, self._restored = self._restored, None
        example = pl_module.example_input_array
        example_inputs = example.to(pl_module.device) if isinstance(example, torch.Tensor) else None
        self._begin(pl_module, self.optimizer_of(trainer), _steps_per_epoch(trainer), state, example_inputs)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log sparsity and bytes."""
        assert self.compressor is not None  # training has begun
        pl_module.log("sparsity", self.compressor.sparsity)
        if trainer.is_global_zero:
            for name, count in self._bytes().items():  # float32 would round it
                pl_module.log(name, torch.tensor(count, dtype=torch.float64), rank_zero_only=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the weights final, and write the output."""
        self._end(writes=trainer.is_global_zero)

    def state_dict(self) -> dict[str, Any]:
        """Return the compressor's state for a checkpoint."""
        return {} if self.compressor is None else self.compressor.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state of a checkpoint until training begins."""
        self._restored = state_dict or None

    def optimizer_of(self, trainer: pl.Trainer) -> torch.optim.Optimizer:
        """Return the optimizer that trains what is compressed; where a module has several, override this.

        Raises:
            UsageError: there are several, or none.
        """
        if len(trainer.optimizers) != 1:
            raise UsageError(
                f"the module has {len(trainer.optimizers)} optimizers: override optimizer_of(trainer) of "
                "CompressorCallback, so that it returns the one of trainer.optimizers that trains what is compressed"
            )
        return trainer.optimizers[0]


def _steps_per_epoch(trainer: pl.Trainer) -> int | None:
    """Return the steps of the optimizer in an epoch, of which the last may have fewer batches; None if not known."""
    batches = trainer.num_training_batches
    return None if math.isinf(batches) else math.ceil(batches / trainer.accumulate_grad_batches)
