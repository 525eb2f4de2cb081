"""What changes while a network trains: weights, optimizer, rates, random numbers, and the epochs so far."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dcomp.errors import CheckpointError, first_line
from dcomp.learning import distributed, state
from dcomp.learning.averaging import Average
from dcomp.learning.devices import restore_threads
from dcomp.learning.held_weights import HeldWeights
from dcomp.learning.learning_rate import LearningRate
from dcomp.learning.optimizers import clip_before_steps, make_optimizer
from dcomp.learning.state import Keeper
from dcomp.progress.observer import EpochRecord
from dcomp.settings import LearningSettings
from dcomp.system.ranks import IS_FIRST, RANK

LOSS = "loss"
"""The name, in a saved state, of the sum of an epoch's losses so far."""

Rank = tuple[float, float]
"""Cost and loss of a network on validation examples (`Measurement.rank`); the lower, the better."""


class TrainingState:
    """The state of one training; a keeper saves it to a file, and it continues from that file.

    Attributes:
        optimizer, rate, average: of the model; the average is None unless the settings want one.
        generator: of the random numbers of augmentation.
        step: how many steps are done.
        epoch_loss: sum of the losses of this epoch's examples so far, on the device.
        history: the epochs that are done.
        best: the rank and the weights of the best network so far.
    """

    def __init__(
        self, model: nn.Module, held: HeldWeights, settings: LearningSettings, epochs: int, steps_per_epoch: int
    ) -> None:
        """Begin before the first step of a model, which is on its device; weights that are held stay so."""
        self._model = model
        self._held = held
        self._settings = settings
        self._steps_per_epoch = steps_per_epoch
        self._device = next(model.parameters()).device
        self.optimizer = make_optimizer(model, settings)
        held.attach(self.optimizer)
        if settings.clip_norm is not None:
            clip_before_steps(self.optimizer, held, settings.clip_norm)
        self.rate = LearningRate(self.optimizer, settings, epochs, steps_per_epoch)
        self.average = Average(model, held, settings.ema) if settings.ema is not None else None
        self.generator = torch.Generator()
        self.step = 0
        self.epoch_loss = torch.zeros((), device=self._device)
        self.history: list[EpochRecord] = []
        self.best: tuple[Rank, dict[str, Tensor]] | None = None
        self._random: dict[str, Tensor] = {}

    def keep_as_best(self, rank: Rank) -> None:
        """Keep a copy of the network as it is now."""
        self.best = rank, copy.deepcopy(self._model.state_dict())

    def save(self, keeper: Keeper, examples: int) -> None:
        """Save the state by a keeper.

        Args:
            keeper: writes the file.
            examples: how many the network trains on; a state continues with as many only.
        """
        optimizer, optimizer_facts = state.optimizer_parts(self.optimizer)
        parts: state.Parts = {
            "model": self._model.state_dict(),
            "optimizer": optimizer,
            "process": self._tensors_of_processes(),
        }
        if self.best is not None:
            parts["best"] = self.best[1]
        if self.average is not None:
            parts["average"] = {str(number): average for number, average in enumerate(self.average.tensors)}
        if IS_FIRST:
            keeper.save(parts, {**self._facts(), "examples": examples, "optimizer": optimizer_facts})

    def _tensors_of_processes(self) -> dict[str, Tensor]:
        """Return random states and losses of all processes, each as `RANK.NAME`."""
        of_this_process = {**state.random_state(self.generator, self._device), LOSS: self.epoch_loss}
        return {
            f"{rank}.{name}": tensor
            for name, tensor_here in of_this_process.items()
            for rank, tensor in enumerate(distributed.gathered(tensor_here, self._device))
        }

    def _facts(self) -> dict[str, Any]:
        """Return what a saved state holds in JSON."""
        return {
            "step": self.step,
            "threads": torch.get_num_threads(),
            "history": [record.as_dict() for record in self.history],
            "best": self.best[0] if self.best is not None else None,
            "rate": self.rate.state(),
        }

    def restore(self, keeper: Keeper, examples: int) -> bool:
        """Restore the state that a keeper has; return whether it has one.

        Raises:
            CheckpointError: the state does not fit this network and data.
        """
        saved = keeper.load()
        if saved is None:
            return False
        parts, facts = saved
        try:
            if facts["examples"] != examples:
                raise ValueError(f"it is of {facts['examples']} training examples, not {examples}")
            restore_threads(facts["threads"], self._settings.threads)
            self._restore_model(parts, facts)
            self._restore_history(parts, facts)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"the state {keeper.file.path} does not fit: {first_line(error)}") from error
        return True

    def _restore_model(self, parts: state.Parts, facts: Mapping[str, Any]) -> None:
        """Restore the model and all that follows its parameters."""
        self._model.load_state_dict(parts["model"])
        self._held.read_masks()
        state.restore_optimizer(self.optimizer, parts.get("optimizer", {}), facts["optimizer"])
        self.rate.restore(facts["rate"])
        if self.average is not None:
            averages = parts["average"]
            self.average.restore([averages[str(number)] for number in range(len(averages))])

    def _restore_history(self, parts: state.Parts, facts: Mapping[str, Any]) -> None:
        """Restore the epochs that are done, and the random numbers of an epoch that is not."""
        self.step = facts["step"]
        self.history = [EpochRecord.of(record) for record in facts["history"]]
        if IS_FIRST:
            self.epoch_loss += sum(tensor for name, tensor in parts["process"].items() if name.endswith(LOSS))
        if facts["best"] is not None:
            self.best = tuple(facts["best"]), {name: tensor.to(self._device) for name, tensor in parts["best"].items()}
        if self.step > len(self.history) * self._steps_per_epoch:
            prefix = f"{RANK}."
            of_this_process = [name for name in parts["process"] if name.startswith(prefix)]
            self._random = {name.removeprefix(prefix): parts["process"][name] for name in of_this_process}

    def restore_random(self) -> None:
        """Continue the random numbers of a restored epoch, once; other epochs have their seeds."""
        if self._random:
            state.restore_random(self._random, self.generator, self._device)
            self._random = {}
