"""A callback that prunes and shares weights while Transformers' Trainer trains them.

>>> from dcomp.torch.transformers import CompressorCallback
>>> callback = CompressorCallback(prune=dict(sparsity=0.5, until=2), quantize=dict(bits=6, start=2), output="lm.dcz")

`transformers.Trainer(..., callbacks=[callback])` does the rest.
"""

import math
from collections.abc import Sized
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from dcomp.errors import CheckpointError, UsageError
from dcomp.learning import vision  # noqa: F401  # before Transformers, which imports a torchvision of any build
from dcomp.learning.running_squares import RunningSquares
from dcomp.torch.callbacks import LoopCallback
from dcomp.torch.compressor import Compressor

try:
    from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
    from transformers.trainer import TRAINER_STATE_NAME
    from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, has_length
except ImportError as error:
    raise UsageError("dcomp.torch.transformers needs Transformers: pip install 'dcomp[transformers]'") from error

SQUARES = "compressor_squares.safetensors"
"""The file in a checkpoint's folder with sums of squared gradients, where a criterion needs them."""

ENTRY = "dcomp.Compressor"
"""The name of the compressor's state among those of callbacks in trainer_state.json."""


class CompressorCallback(LoopCallback, TrainerCallback):
    """Prune and share the weights of a model; logs have `sparsity` and, once an epoch, `dcz_bytes`.

    A checkpoint's trainer_state.json holds the compressor's state, so that `train(resume_from_checkpoint=...)` goes on
    where it was.
    """

    _trains = False
    _bytes_are_due = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Hang a compressor on the optimizer; model and optimizer are restored by now."""
        restored = _entries(state).get(ENTRY)
        if isinstance(restored, _Entry):
            raise UsageError("a Trainer takes one CompressorCallback: give it all sections, in lists")
        if restored is not None:
            restored = _with_sums(restored, args, state)
        self._begin(kwargs["model"], kwargs["optimizer"], _steps_per_epoch(args, kwargs["train_dataloader"]), restored)
        assert self.compressor is not None  # it has begun
        _entries(state)[ENTRY] = _Entry(self.compressor)
        self._trains = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Have the bytes measured when the Trainer logs next."""
        self._bytes_are_due = True

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add sparsity and bytes to what is logged while the model trains."""
        if not self._trains or self.compressor is None:
            return
        figures: dict[str, float] = {"sparsity": self.compressor.sparsity}
        if self._bytes_are_due and state.is_world_process_zero:
            figures |= self._bytes()
            self._bytes_are_due = False
        kwargs["logs"].update(figures)
        state.log_history[-1].update(figures)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write what is too large for trainer_state.json into the checkpoint."""
        assert self.compressor is not None  # training has begun
        if args.should_save and (sums := self.compressor.state_dict()["squares"]["sums"]):
            save_file(sums, _checkpoint(args, state) / SQUARES)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Make the weights final, and write the output."""
        if args.load_best_model_at_end and state.best_model_checkpoint is not None:
            self._go_back_to(Path(state.best_model_checkpoint))
        self._trains = False
        self._end(writes=state.is_world_process_zero)

    def log_to(self, trainer: Trainer) -> None:
        """Log to the Trainer's reporters, like TensorBoard's, too: they come first else, before the figures are there.

        Args:
            trainer: that has this callback.
        """
        callbacks = trainer.callback_handler.callbacks
        callbacks.insert(0, callbacks.pop(callbacks.index(self)))

    def _go_back_to(self, checkpoint: Path) -> None:
        """Restore the state of the compressor that belongs to the weights of the best checkpoint."""
        assert self.compressor is not None  # training has begun
        state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        if (best := _entries(state).get(ENTRY)) is not None:
            self.compressor.load_state_dict({**best, "squares": RunningSquares().state()})


class _Entry:
    """An entry of trainer_state.json: the Trainer copies it when it writes the file, and the copy is a dictionary.

    The Trainer offers `ExportableState` for this. With that it would replace the callback by a new one, with arguments
    from the checkpoint, where TrainingArguments say `restore_callback_states_from_checkpoint`.
    """

    def __init__(self, compressor: Compressor) -> None:
        self._compressor = compressor

    def __deepcopy__(self, memo: object) -> dict[str, Any]:
        state = self._compressor.state_dict()
        return {**state, "squares": {**state["squares"], "sums": {}}}  # the sums are in a file beside it


def _entries(state: TrainerState) -> dict[str, Any]:
    """Return the entries of callbacks in trainer_state.json, by name."""
    entries: dict[str, Any] = state.stateful_callbacks  # type: ignore[assignment]  # its __post_init__ makes it one
    return entries


def _with_sums(restored: Any, args: TrainingArguments, state: TrainerState) -> dict[str, Any]:
    """Return the compressor's state from trainer_state.json with the sums of squared gradients beside it.

    Raises:
        CheckpointError: it is none, or the sums are missing.
    """
    try:
        squares = restored["squares"]
        sums = _sums_beside(args, state) if squares["counts"] else {}
        return {**restored, "squares": {**squares, "sums": sums}}
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"trainer_state.json has no state of a compressor: {error!r}") from error


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    """Return the folder of the checkpoint that the Trainer writes at this step."""
    return Path(args.output_dir or "") / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"


def _sums_beside(args: TrainingArguments, state: TrainerState) -> dict[str, Tensor]:
    """Return the sums of squared gradients from the folder of the checkpoint that training goes on from.

    Raises:
        CheckpointError: the folder is not known, or has no sums.
    """
    folders = [Path(args.resume_from_checkpoint)] if args.resume_from_checkpoint else []
    for folder in (*folders, _checkpoint(args, state)):
        if (folder / SQUARES).exists():
            return load_file(folder / SQUARES)
    raise CheckpointError(
        f"the criterion needs {SQUARES} of the checkpoint, which is not in {_checkpoint(args, state)}: give its folder "
        "as TrainingArguments(resume_from_checkpoint=...) too"
    )


def _steps_per_epoch(args: TrainingArguments, loader: Sized) -> int | None:
    """Return the steps of the optimizer in an epoch, of which the last may have fewer batches; None if not known."""
    return math.ceil(len(loader) / args.gradient_accumulation_steps) if has_length(loader) else None
