"""Pruning and weight sharing in a person's own training loop.

The compressor hangs on the loop's optimizer. The model keeps its parameters, and its state its names.
"""

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import nn

from dcomp import api
from dcomp.checkpoints import layers
from dcomp.compression.phases import Phases
from dcomp.container.reader import Container
from dcomp.errors import CheckpointError, UsageError
from dcomp.learning import weights
from dcomp.learning.loop_network import LoopNetwork
from dcomp.progress.observer import Observer
from dcomp.reporting import size_tables
from dcomp.reporting.sizes import SizeReport, measure_container
from dcomp.settings import PruneSettings, QuantizeSettings, loop_sections
from dcomp.settings.loop_sections import Sections
from dcomp.system.ranks import IS_FIRST

LOG = logging.getLogger("dcomp")

STATE_VERSION = 1


class Compressor:
    """Prunes a model's weights, and lets them share values, while a loop of the user trains it.

    Before each step of the optimizer gradients become those of what trains: zero where a weight is pruned, and for
    a shared value the sum over its members. After each step pruned weights are zero and shared values equal. The loop
    stays as it was: gradient accumulation, GradScaler, DistributedDataParallel, torch.compile and moving averages too.

    >>> import torch, dcomp.torch
    >>> model = torch.nn.Linear(20, 10)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> compressor = dcomp.torch.Compressor(
    ...     model, optimizer, steps_per_epoch=5, prune=dict(sparsity=0.9, until=2), quantize=dict(fc_bits=2, start=3)
    ... )
    >>> for step in range(20):
    ...     optimizer.zero_grad()
    ...     model(torch.rand(8, 20)).square().mean().backward()
    ...     optimizer.step()
    >>> compressor.phase, round(compressor.sparsity, 2), len(model.weight.unique()) <= 1 + 2**2
    ('shared', 0.9, True)
    >>> compressor.save("compressed.dcz")

    Attributes:
        step: how many steps of the optimizer are done; steps that a GradScaler skips do not count.
        notes: what a person should know, line by line; they go to the logger `dcomp` as well.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        steps_per_epoch: int | None = None,
        prune: Sections = None,
        quantize: Sections = None,
        example_inputs: torch.Tensor | None = None,
        hold: bool = True,
    ) -> None:
        """Hang on the optimizer. Each section begins with the weights as they are at its first step.

        Args:
            model: it may be wrapped by DistributedDataParallel or torch.compile. It is on its device.
            optimizer: of the model. What another optimizer trains is left as it is; frozen weights may be pruned.
            steps_per_epoch: steps of the optimizer in an epoch, the unit of all times. None: times are steps.
            prune: the keys of a recipe's section `prune` but those of the loop, like `dict(sparsity=0.9, until=10)`;
                or a list of such sections.
            quantize: the same of a section `quantize`, like `dict(conv_bits=8, fc_bits=5, start=12)`.
            example_inputs: a batch of inputs, which `remove_dead_units` needs.
            hold: whether weights that are pruned or shared now stay so.

        Raises:
            UsageError: wrong keys or values, all in one message; sections that do not fit the model or each other;
                or a model whose weights are not here, as FSDP's are not.
            CheckpointError: weights that are not finite.
        """
        steps_per_epoch = _count(steps_per_epoch)
        settings = loop_sections.read(prune, quantize, in_steps=steps_per_epoch is None)
        self._steps_per_epoch = steps_per_epoch
        self._identity = _identity(steps_per_epoch, *settings)
        self.step = 0
        self.notes: list[str] = []
        self._is_finished = False
        self._network = LoopNetwork(model, optimizer, example_inputs)
        if not isinstance(example_inputs, torch.Tensor) and any(section.remove_dead_units for section in settings[0]):
            raise UsageError("prune.remove_dead_units needs example_inputs: a batch of inputs, as the model takes it")
        self._phases = Phases(self._network, *settings, steps_per_epoch or 1, _Notes(self))
        self._network.attach(self._on_gradients)
        if hold:
            try:
                self._hold()
            except Exception:
                self._network.detach()
                raise
        if left_out := self._network.left_out:
            self._note(
                f"{layers.listed(left_out)}: not in this optimizer, and another may train it, so it is left as it is; "
                "with requires_grad False it counts as frozen"
            )

    @property
    def time(self) -> float:
        """The time of the next step: in epochs, or in steps without `steps_per_epoch`."""
        return self.step / (self._steps_per_epoch or 1)

    @property
    def sparsity(self) -> float:
        """The fraction of zeros in all weights but the vectors; tied weights count once."""
        return weights.sparsity(self._network.model)

    @property
    def phase(self) -> str:
        """What goes on: `dense`, `held`, `pruning 0.45 of 0.9`, `pruned` or `shared`."""
        return self._phases.words or ("held" if any(self._network.held_counts().values()) else "dense")

    @property
    def to_come(self) -> str:
        """What the sections have still to do, in a line; empty if that is nothing."""
        return self._phases.to_come

    def save(
        self,
        filename: str | os.PathLike[str],
        metadata: Mapping[str, str] | None = None,
        *,
        overwrite: bool = False,
    ) -> None:
        """Write the model as it is now into a .dcz file; the model and the training do not change.

        Raises:
            CheckpointError: the model's state holds what safetensors does not have.
            OutputError: the file exists, or cannot be written.
        """
        api.check_new(filename, overwrite=overwrite)
        if self._phases.to_come and not self._is_finished:
            self._note(f"saved at {self.time:g}; still to come: {self._phases.to_come}")
        api.save_file(self._final_tensors(), filename, metadata, overwrite=overwrite)

    def report(self) -> "Report":
        """Return where the bytes of the model's .dcz file would go now; printed, it is the table of `dcomp report`."""
        return Report(measure_container(Container(api.save(self._final_tensors()))))

    def finish(self) -> None:
        """Make the weights final, and remove the hooks from the optimizer: the model is a plain one again.

        What is due at the end of the last step, like sharing at epoch 12 of 12, is done. What would be due later is
        not: the weights stay as they are, and a warning says what is missing.
        """
        if self._is_finished:
            return
        self._phases.run_due(self.step)
        if self._phases.to_come:
            self.notes.append(f"the loop ended at {self.time:g}; not done: {self._phases.to_come}")
            if IS_FIRST:
                warnings.warn(self.notes[-1], stacklevel=2)
        self._network.apply_to(self._network.model)
        self._network.set(self._phases.rounded(self._network.tensors()))
        self._network.detach()
        self._is_finished = True

    def detach(self) -> None:
        """Remove the hooks from the optimizer, as of a loop that was interrupted; the weights stay as they are."""
        self._network.detach()

    def apply_to(self, model: nn.Module) -> None:
        """Give a copy of the model, like its moving average, the same zeros and shared values.

        A shared value is the mean of its members in the copy.

        Raises:
            ArchitectureError: a model with other parameters.
        """
        self._network.apply_to(model)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed loop needs beside the states of model and optimizer: plain data and a few tensors.

        Masks and codes are not among them: they are read from the weights.
        """
        return {
            "version": STATE_VERSION,
            "sections": self._identity,
            "step": self.step,
            "held": self._network.held_counts(),
            "facts": self._phases.facts(),
            "squares": self._network.squares.state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state, after those of the model and of the optimizer.

        Raises:
            CheckpointError: it is of a compressor with other sections, or the model's weights are not those of it.
        """
        try:
            if state["version"] != STATE_VERSION or state["sections"] != self._identity:
                raise CheckpointError(
                    "the state is of a compressor with other sections or steps_per_epoch: give the same, "
                    f"{state['sections']}"
                )
            if not isinstance(state["step"], int) or state["step"] < 0:
                raise ValueError(f"step {state['step']!r}")
            self._network.hold_again(state["held"])
            self._network.restore_squares(state["squares"])
            self._phases.restore(state["facts"], state["step"])
            self.step = state["step"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"this is no state of a compressor of this model: {error!r}") from error

    def __getstate__(self) -> object:
        """Raise UsageError: copies and pickles of it would hang on no optimizer."""
        raise UsageError(
            "a compressor hangs on its optimizer, and cannot be copied or pickled: keep its state_dict(), and load it "
            "into a new compressor of the copied model and optimizer"
        )

    def _on_gradients(self) -> None:
        """Count a step; run what is due at it, while its gradients are there."""
        self._network.add_squares(self._phases.names_with_gradients)
        self._phases.run_due(self.step)
        self._network.squares.keep_only(self._phases.names_with_gradients)
        self.step += 1

    def _hold(self) -> None:
        """Hold what is compressed already."""
        masked, shared = self._network.hold_compressed()
        for names, what in ((masked, "what is zero now stays zero"), (shared, "shared now, and held so")):
            if names:
                self._note(f"{layers.listed(names)}: {what}; hold=False lets them train")
        if both := [name for name in shared if name in self._phases.names_pruned()]:
            self._note(f"{layers.listed(both)}: prune ends the sharing of these weights; give quantize as well")

    def _final_tensors(self) -> dict[str, np.ndarray]:
        """Return the model's state as `finish` would make it."""
        tensors = self._network.exact_tensors()
        return {**tensors, **self._phases.rounded(tensors)}

    def _note(self, text: str, level: int = logging.WARNING) -> None:
        """Keep a note, and log it in the first process."""
        self.notes.append(text)
        if IS_FIRST:
            LOG.log(level, text)


class _Notes(Observer):
    """Passes the notes of sections on."""

    def __init__(self, compressor: Compressor) -> None:
        self._compressor = compressor

    def note(self, text: str) -> None:
        """Keep a note; only warnings are shown where no one has set up logging."""
        self._compressor._note(text, logging.WARNING if text.startswith("warning: ") else logging.INFO)


@dataclass(frozen=True)
class Report:
    """The sizes of a model's .dcz file; as text, the tables of `dcomp report`.

    Attributes:
        sizes: a row for each tensor.
    """

    sizes: SizeReport

    @property
    def file_bytes(self) -> int:
        """The bytes of the file."""
        return self.sizes.file_bytes

    @property
    def ratio(self) -> float:
        """The bytes of the dense tensors over those of the file."""
        return self.sizes.ratio

    def __str__(self) -> str:
        return size_tables.as_text(self.sizes)

    __repr__ = __str__


def _identity(
    steps_per_epoch: int | None, prune: Sequence[PruneSettings], quantize: Sequence[QuantizeSettings]
) -> dict[str, Any]:
    """Return what two compressors share if the state of one fits the other, as plain data."""
    return {
        "steps_per_epoch": steps_per_epoch,
        "prune": [_given(section) for section in prune],
        "quantize": [_given(section) for section in quantize],
    }


def _given(section: PruneSettings | QuantizeSettings) -> dict[str, Any]:
    """Return the keys of a section that a person gave; how long the loop trains follows from them."""
    return {key: value for key, value in section.arguments(defaults=False).items() if key != "epochs"}


def _count(steps_per_epoch: Any) -> int | None:
    """Return a number of steps; raise UsageError unless it is None or an integer above 0."""
    if steps_per_epoch is None:
        return None
    if not isinstance(steps_per_epoch, Integral) or steps_per_epoch is True or int(steps_per_epoch) < 1:
        raise UsageError(f"steps_per_epoch is the number of optimizer steps in an epoch, not {steps_per_epoch!r}")
    return int(steps_per_epoch)
