"""A network, its data and its constraints, from a checkpoint's tensors and back to them."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch

from dcomp.checkpoint import Checkpoint
from dcomp.errors import UsageError
from dcomp.learning import architectures, constraints, datasets
from dcomp.learning.evaluation import Evaluation, evaluate
from dcomp.learning.training import choose_device, fit
from dcomp.observer import EpochRecord, Observer
from dcomp.settings import DataSettings, LearningSettings


class Session:
    """One stage's worth of learning: a model on a device, and a data set."""

    def __init__(self, architecture: str, checkpoint: Checkpoint | None, settings: LearningSettings) -> None:
        """Build the network, fill it from the checkpoint if there is one, and load the data.

        Raises:
            ArchitectureError: no such network, or the checkpoint does not fit it.
            DataError: the data set cannot be had.
        """
        assert settings.data is not None  # the settings have checked it
        torch.manual_seed(settings.seed)
        self._settings = settings
        self._architecture = architecture
        self._device = choose_device(settings.device)
        self._model = _filled(architecture, checkpoint).to(self._device)
        self._dtypes = {name: array.dtype for name, array in checkpoint.tensors.items()} if checkpoint else {}
        self._data = datasets.load(settings.data, settings.data_dir)

    def mask(self, masks: Mapping[str, np.ndarray]) -> None:
        """Hold weights at zero where their mask is False; what was pruned stays pruned."""
        for name, kept in masks.items():
            constraints.mask(self._model, name, kept)

    def hold(self, names: Iterable[str], shared: Iterable[str]) -> None:
        """Hold tensors as they are now: those in `shared`, and others that look it, shared; zeros zero."""
        for name in shared:
            constraints.share(self._model, name)
        constraints.hold(self._model, list(names))

    def shared(self, names: Iterable[str]) -> list[str]:
        """Those of the tensors whose weights share few values now."""
        return [name for name in names if constraints.is_shared(self.weights(name))]

    def weights(self, name: str) -> np.ndarray:
        """A tensor as the network uses it now."""
        return constraints.effective(self._model, name)

    def fit(
        self,
        observer: Observer,
        *,
        before_step: Callable[[float], None] = lambda time: None,
        eligible_after: float = 0.0,
    ) -> list[EpochRecord]:
        """Train, and leave the network at its best epoch; see `training.fit`."""
        train, validation = self._data.split_validation(self._settings.val_split, self._settings.seed)
        try:
            return fit(
                self._model,
                train.to(self._device),
                validation.to(self._device),
                self._settings,
                observer,
                before_step=before_step,
                eligible_after=eligible_after,
            )
        finally:
            observer.finished()

    def tensors(self) -> dict[str, np.ndarray]:
        """The network's state without constraints, in the checkpoint's dtypes."""
        constraints.release(self._model)
        state = architectures.tensors_of(self._model)
        return {name: array.astype(self._dtypes.get(name, array.dtype), copy=False) for name, array in state.items()}

    def metadata(self) -> dict[str, str]:
        """The metadata entry by which the checkpoint will find its network again."""
        return {architectures.ARCHITECTURE_KEY: self._architecture}


def evaluate_checkpoint(checkpoint: Checkpoint, architecture: str, settings: DataSettings) -> Evaluation:
    """Errors of a checkpoint on the test examples of a data set.

    Raises:
        ArchitectureError: no such network, or the checkpoint does not fit it.
        DataError: the data set cannot be had.
        UsageError: no data set was named.
    """
    if settings.data is None:
        raise UsageError("--data is missing: name the data set, as in --data mnist")
    device = choose_device(settings.device)
    model = _filled(architecture, checkpoint).to(device)
    return evaluate(model, datasets.load(settings.data, settings.data_dir).test.to(device))


def _filled(architecture: str, checkpoint: Checkpoint | None) -> torch.nn.Module:
    model = architectures.build(architecture)
    if checkpoint is not None:
        architectures.load_into(model, checkpoint, architecture)
    return model
