"""What the callbacks of Lightning and Transformers share: a compressor that begins and ends with a training."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from dcomp import api
from dcomp.errors import UsageError
from dcomp.settings import loop_sections
from dcomp.settings.loop_sections import Sections
from dcomp.torch.compressor import Compressor


class LoopCallback:
    """A compressor in the loop of a Trainer.

    Attributes:
        compressor: of the training that goes on, or went on last; None before any.
    """

    def __init__(
        self,
        *,
        prune: Sections = None,
        quantize: Sections = None,
        in_steps: bool = False,
        hold: bool = True,
        output: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        log_bytes: bool = True,
    ) -> None:
        """Choose what is pruned and shared, and when, as for `dcomp.torch.Compressor`.

        Args:
            prune: keys of a recipe's section, like `dict(sparsity=0.9, until=10)`, or a list of such sections.
            quantize: likewise, like `dict(conv_bits=8, fc_bits=5, start=12)`.
            in_steps: whether times are steps of the optimizer; else they are epochs of the Trainer.
            hold: whether weights that are pruned or shared when training begins stay so.
            output: a .dcz file, written when training ends.
            overwrite: whether `output` may exist.
            log_bytes: whether the bytes of a .dcz file are logged once an epoch, for which the model is encoded in
                memory.

        Raises:
            UsageError: no section, or sections with mistakes, all of them in one message.
            OutputError: `output` exists, and `overwrite` is not set.
        """
        if not prune and not quantize:
            raise UsageError(
                "say what to compress: prune=dict(sparsity=0.9, until=10), quantize=dict(bits=5, start=12)"
            )
        loop_sections.read(prune, quantize, in_steps=in_steps)
        if output is not None:
            api.check_new(output, overwrite=overwrite)
        self._sections = {"prune": prune, "quantize": quantize}
        self._in_steps, self._hold, self._log_bytes = in_steps, hold, log_bytes
        self._output, self._overwrite = output, overwrite
        self.compressor: Compressor | None = None

    def _begin(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        steps_per_epoch: int | None,
        state: Mapping[str, Any] | None,
        example_inputs: torch.Tensor | None = None,
    ) -> None:
        """Hang a compressor on the optimizer of a training that begins, or goes on from a checkpoint.

        Args:
            model: as a checkpoint has restored it.
            optimizer: likewise.
            steps_per_epoch: of the Trainer; None if its data has no length.
            state: of the compressor, from the checkpoint; None without one.
            example_inputs: a batch of inputs.

        Raises:
            UsageError, CheckpointError: as `Compressor`.
        """
        if not self._in_steps and steps_per_epoch is None:
            raise UsageError("the data has no length, so nothing says what an epoch is: give in_steps=True, and steps")
        if self.compressor is not None:  # of a training that was interrupted, maybe with the same optimizer
            self.compressor.detach()
        self.compressor = Compressor(
            model,
            optimizer,
            steps_per_epoch=None if self._in_steps else steps_per_epoch,
            example_inputs=example_inputs,
            hold=self._hold and state is None,
            **self._sections,
        )
        if state is not None:
            self.compressor.load_state_dict(state)

    def _bytes(self) -> dict[str, int]:
        """Return the bytes of a .dcz file of the model, under the name to log them by; nothing if not wanted."""
        assert self.compressor is not None  # training has begun
        return {"dcz_bytes": self.compressor.report().file_bytes} if self._log_bytes else {}

    def _end(self, *, writes: bool) -> None:
        """Make the weights final, and write the output in the process that `writes`."""
        assert self.compressor is not None  # training has begun
        self.compressor.finish()
        if self._output is not None and writes:
            self.compressor.save(self._output, overwrite=self._overwrite)
