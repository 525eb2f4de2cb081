"""A network, its data and its held weights, from a checkpoint's tensors and back to them."""

from collections.abc import Iterable, Mapping

import ml_dtypes
import numpy as np
import torch
from torch import nn

from dcomp.checkpoints.checkpoint import ARCHITECTURE_KEY, Checkpoint
from dcomp.learning import architectures, distributed, gradients, optimizers, paths, training
from dcomp.learning.architectures import arguments
from dcomp.learning.architectures.arguments import Arguments
from dcomp.learning.conversion import to_numpy
from dcomp.learning.devices import choose_device, choose_threads
from dcomp.learning.distillation import Distillation
from dcomp.learning.dropout import DropoutRule
from dcomp.learning.fit_plan import ALL_EPOCHS, FitPlan
from dcomp.learning.freezing import freeze
from dcomp.learning.held_weights import HeldWeights
from dcomp.learning.imitation import Imitation
from dcomp.learning.losses import Loss
from dcomp.learning.networks import filled, lay_out, load_data, teacher_for
from dcomp.learning.objectives import Classification
from dcomp.learning.state import Keeper, Origin
from dcomp.learning.trial import Trial
from dcomp.progress.observer import EpochRecord, Observer
from dcomp.progress.resumption import StateFile
from dcomp.quantization.recognition import is_shared
from dcomp.settings import LearningSettings


class Session:
    """The learning of one stage: a network on its device and a data set, for one training or several.

    Attributes:
        model: the network.
        held: its pruned and shared weights, which stay so in every training.
    """

    def __init__(
        self,
        architecture: str,
        checkpoint: Checkpoint | None,
        settings: LearningSettings,
        observer: Observer,
        *,
        pretrained: bool = False,
        teacher: Checkpoint | None = None,
    ) -> None:
        """Load the data, build the network for it, and fill the network from the checkpoint, if there is one.

        Args:
            architecture: of the network.
            checkpoint: fills the network; None: its weights are random.
            settings: of the stage.
            observer: watches.
            pretrained: fill the network with torchvision's weights.
            teacher: its network sees the same examples.

        Raises:
            ArchitectureError: no such network, or checkpoint or data do not fit it.
            DataError: the data set cannot be loaded, or does not fit the network.
            UsageError: the optimizer cannot be made, or the tensors to freeze are none or all.
        """
        optimizers.check(settings)
        self._settings = settings
        self._architecture = architecture
        self._device = distributed.join(choose_device(settings.device))
        network_arguments = Arguments(architecture, checkpoint, settings)
        data = load_data(network_arguments, settings, observer)
        train, validation = data.split_validation(settings.val_split, settings.seed)
        self._train, self._validation = train.to(self._device), validation.to(self._device)
        observer.activity(f"building {architecture}")
        self._arguments, self._resize = network_arguments.complete(data.train.form), network_arguments.resize
        self.model = self._network(checkpoint, pretrained=pretrained)
        self.held = HeldWeights(self.model)
        self._trial = Trial(self.model, self._train)
        self._trial.check(architecture)
        lay_out(self._trial)
        freeze(self.model, settings.freeze)
        choose_threads(settings.threads, self._trial, observer)
        self._distillation = self._learned_from(teacher) if teacher is not None else None
        self._dropout = DropoutRule(self._trial)
        self._dtypes = {name: array.dtype for name, array in checkpoint.tensors.items()} if checkpoint else {}
        self._sources = checkpoint, teacher

    def _network(self, checkpoint: Checkpoint | None, *, pretrained: bool) -> nn.Module:
        """Return the network on the device, the same in all processes.

        Raises:
            ArchitectureError: it cannot be made or filled.
        """
        torch.manual_seed(self._settings.seed)
        model = filled(self._architecture, self._arguments, checkpoint).to(self._device)
        model = distributed.synchronized(model)
        if pretrained:
            with distributed.first_goes_ahead():
                architectures.load_pretrained(model, self._architecture)
        return model

    def _learned_from(self, teacher: Checkpoint) -> Distillation:
        """Return the distance of the network from a teacher's.

        Raises:
            ArchitectureError: the teacher's checkpoint does not fit its network, or the outputs of both differ in form.
            UsageError: a setting of distillation does not fit the networks.
        """
        settings, objective = self._settings, self._train.objective
        model = teacher_for(teacher, self._train, self._device, self._architecture, trusted=settings.trust_code)
        of_classes = isinstance(objective, Classification)
        distillation = Distillation(self.model, model, settings, of_classes=of_classes)
        distillation.check(self._trial)
        if isinstance(objective, Imitation):
            objective.distillation = distillation
        return distillation

    def load(self, checkpoint: Checkpoint) -> None:
        """Fill the network from another checkpoint for its next training, in which no weights are held yet."""
        self.held.release()
        architectures.load_into(self.model, checkpoint, self._architecture)
        lay_out(self._trial)
        self._sources = checkpoint, self._sources[1]

    @property
    def steps_per_epoch(self) -> int:
        """Training steps in an epoch."""
        return self._train.steps(self._settings.batch_size)

    @property
    def last_step(self) -> int:
        """The number of the last training step, the first being 0."""
        return self._settings.epochs * self.steps_per_epoch - 1

    def mask(self, masks: Mapping[str, np.ndarray]) -> None:
        """Hold weights at zero where their mask is False; earlier zeros stay zero."""
        for name, kept in masks.items():
            self.held.mask(name, kept)
        self._dropout.apply()

    def mask_dead(self) -> None:
        """Hold weights and biases that lie on no path from input to output at zero, except shared ones.

        Raises:
            UsageError: the network has layers whose paths are unknown.
        """
        for name, alive in paths.alive(self.model, self._trial.input_tensor()).items():
            self.held.restrict(name, alive)
        self._dropout.apply()

    def share(self, names: Iterable[str]) -> None:
        """Hold tensors at the distinct values that they have now; the values train."""
        for name in names:
            self.held.share(name)

    def shared(self, names: Iterable[str]) -> list[str]:
        """Return those of the tensors whose weights share few values now."""
        return [name for name in names if is_shared(self.weights(name))]

    def weights(self, name: str) -> np.ndarray:
        """Return a tensor as it is now."""
        return to_numpy(self.model.get_parameter(name))

    def squared_gradients(self, names: Iterable[str], seed: int) -> dict[str, np.ndarray]:
        """Return the mean squared gradient of tensors now; see `gradients.squared_gradients`."""
        parameters = {name: self.model.get_parameter(name) for name in names}
        loss = Loss(self._train.objective, self._settings, self._distillation)
        squares = gradients.squared_gradients(self.model, parameters, self._train, self._settings, loss, seed)
        return {name: to_numpy(mean.masked_fill(parameters[name] == 0, 0)) for name, mean in squares.items()}

    def fit(self, observer: Observer, plan: FitPlan = ALL_EPOCHS, state: StateFile | None = None) -> list[EpochRecord]:
        """Train, and leave the network at its best epoch; see `training.fit`.

        Args:
            observer: watches.
            plan: of this training.
            state: where the state is saved, if anywhere.
        """
        self._dropout.apply()
        keeper = Keeper(state, Origin.of(self._settings, *self._sources)) if state is not None else None
        try:
            return training.fit(
                self.model,
                self._train,
                self._validation,
                self._settings,
                observer,
                plan,
                held=self.held,
                distillation=self._distillation,
                keeper=keeper,
                on_restore=self._dropout.apply,
            )
        finally:
            observer.finished()

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the network's state in the checkpoint's dtypes and under its names."""
        state = architectures.tensors_of(self.model)
        dtypes = self._dtypes or {name: array.dtype for name, array in state.items()}
        return {name: _cast(array, dtypes[name]) for name, array in state.items() if name in dtypes}

    def metadata(self) -> dict[str, str]:
        """Return the metadata entries that name the network, its arguments and the size of its images."""
        return {ARCHITECTURE_KEY: self._architecture, **arguments.metadata(self._arguments, self._resize)}


def _cast(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the array in another dtype; no element becomes zero, or it would count as pruned."""
    cast = array.astype(dtype, copy=False)
    vanished = (cast == 0) & (array != 0)
    if vanished.any():
        smallest = np.asarray(ml_dtypes.finfo(dtype).smallest_subnormal, dtype)
        cast[vanished] = np.where(array[vanished] < 0, -smallest, smallest)
    return cast
