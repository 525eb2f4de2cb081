"""One function per command: settings and a checkpoint in, a checkpoint or a result out.

What needs torch is imported inside the functions that learn, so that the others run without it.
"""

import re
from typing import TYPE_CHECKING, BinaryIO

from dcomp import sources
from dcomp.checkpoints import layers, prefixes
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.checkpoints.tensors import specs_of
from dcomp.coding.level import DEFAULT, LEVELS
from dcomp.compression import choice, provenance, retraining, rewinding
from dcomp.compression.pruning import Pruning
from dcomp.compression.sharing import Sharing
from dcomp.container import writer
from dcomp.container.reader import Container
from dcomp.errors import GateError, UsageError
from dcomp.progress.measurement import Measurement
from dcomp.progress.observer import SILENT, EpochRecord, Observer
from dcomp.progress.resumption import StateFile
from dcomp.reporting.sizes import SizeReport, measure_container
from dcomp.settings import (
    DataSettings,
    EncodeSettings,
    EvalSettings,
    FinetuneSettings,
    LearningSettings,
    PruneSettings,
    QuantizeSettings,
    ReportSettings,
    SensitivitySettings,
    TrainSettings,
)

if TYPE_CHECKING:
    from dcomp.compression.error_curves import Sensitivity
    from dcomp.learning.session import Session


def train(
    settings: TrainSettings,
    observer: Observer = SILENT,
    *,
    state: StateFile | None = None,
) -> Checkpoint:
    """Train a network from scratch, or from torchvision's weights.

    Returns:
        the best epoch on validation examples, with architecture, arguments and history as metadata.

    Raises:
        UsageError: no data.
        StoppedError: Ctrl-C or SIGTERM came; `state` holds what a resumed stage needs.
    """
    if settings.data is None:
        raise UsageError("training needs data: name a data set (--data), like mnist")
    observer.activity("loading torch")
    from dcomp.learning.session import Session

    session = Session(
        settings.architecture, None, settings, observer, pretrained=settings.pretrained, teacher=_teacher(settings)
    )
    history = session.fit(observer, state=state)
    return provenance.with_notes(Checkpoint(session.tensors(), session.metadata()), "train", settings, history)


def prune(
    checkpoint: Checkpoint,
    settings: PruneSettings,
    observer: Observer = SILENT,
    *,
    architecture: str | None = None,
    state: StateFile | None = None,
) -> Checkpoint:
    """Set weights to zero, as many as the settings name.

    Without epochs in one shot, in numpy; with epochs while the network retrains (paper, section 2).

    Raises:
        UsageError: no such layers.
        CheckpointError: weights that are not finite, or stored as original and mask; or the checkpoint to rewind to is
            of another network; or the masks of a file do not fit.
        StoppedError: Ctrl-C or SIGTERM came; `state` holds what a resumed stage needs.
    """
    prefixes.check_merged(checkpoint)
    network: choice.ParameterNames | None = None
    if settings.epochs:
        settings = provenance.with_recorded_data(settings, checkpoint, observer)
        checkpoint, network = _under_network_names(checkpoint, architecture, settings, observer)
    given_masks = sources.load_checkpoint(settings.mask) if settings.mask is not None else None
    pruning = Pruning(checkpoint.tensors, settings, network, given_masks)
    history: list[EpochRecord] = []
    if settings.rewind or not settings.epochs:
        pruned = pruning.at_once()
        checkpoint = checkpoint.replaced(pruned)
        if settings.rewind:
            checkpoint = rewinding.rewind(checkpoint, sources.load_checkpoint(settings.rewind), list(pruned))
    if settings.epochs:
        session = _session(checkpoint, settings, architecture, observer)
        history = retraining.prune(session, checkpoint, pruning, observer, state)
        checkpoint = checkpoint.replaced(session.tensors(), session.metadata())
    for note in pruning.notes(checkpoint.tensors):
        observer.note(note)
    return provenance.with_notes(checkpoint, "prune", settings, history)


def finetune(
    checkpoint: Checkpoint,
    settings: FinetuneSettings,
    observer: Observer = SILENT,
    *,
    architecture: str | None = None,
    state: StateFile | None = None,
) -> Checkpoint:
    """Train a checkpoint's network while all zeros stay zero and all shared values stay shared.

    Returns:
        the best epoch on validation examples after `choose_after`; where that is 0, the network before the first epoch
        is a candidate too.

    Raises:
        ArchitectureError: no such network, or the checkpoint does not fit it.
        CheckpointError: weights that are stored as original and mask.
        DataError: the data set cannot be loaded.
        StoppedError: Ctrl-C or SIGTERM came; `state` holds what a resumed stage needs.
    """
    prefixes.check_merged(checkpoint)
    settings = provenance.with_recorded_data(settings, checkpoint, observer)
    checkpoint, network = _under_network_names(checkpoint, architecture, settings, observer)
    session = _session(checkpoint, settings, architecture, observer)
    parameters = {name for name, first in network.items() if name == first}
    history = retraining.finetune(session, checkpoint, parameters, observer, state, choose_after=settings.choose_after)
    checkpoint = checkpoint.replaced(session.tensors(), session.metadata())
    return provenance.with_notes(checkpoint, "finetune", settings, history)


def quantize(
    checkpoint: Checkpoint,
    settings: QuantizeSettings,
    observer: Observer = SILENT,
    *,
    architecture: str | None = None,
    state: StateFile | None = None,
) -> Checkpoint:
    """Let the kept weights of each tensor share at most 2^bits values (paper, section 3).

    With epochs the network trains until the epoch `start`; then weights are shared, and the shared values train.
    Zeros stay zero, and values that are shared already stay shared.

    Raises:
        UsageError: no such layers.
        CheckpointError: weights that are not finite, or stored as original and mask.
        StoppedError: Ctrl-C or SIGTERM came; `state` holds what a resumed stage needs.
    """
    prefixes.check_merged(checkpoint)
    network: choice.ParameterNames | None = None
    if settings.epochs:
        settings = provenance.with_recorded_data(settings, checkpoint, observer)
        checkpoint, network = _under_network_names(checkpoint, architecture, settings, observer)
    sharing = Sharing(checkpoint.tensors, settings, observer, network)
    history: list[EpochRecord] = []
    if settings.epochs:
        session = _session(checkpoint, settings, architecture, observer)
        checkpoint, history = retraining.share(session, checkpoint, sharing, observer, state)
    else:
        checkpoint = checkpoint.replaced(sharing.at_once(checkpoint.tensors, observer))
    checkpoint = checkpoint.replaced(sharing.rounded(checkpoint.tensors))
    return provenance.with_notes(checkpoint, "quantize", settings, history)


def encode(
    checkpoint: Checkpoint,
    stream: BinaryIO,
    settings: EncodeSettings | None = None,
    observer: Observer = SILENT,
    *,
    workers: int = 1,
) -> None:
    """Write a checkpoint as a .dcz container, losslessly (paper, section 4).

    Raises:
        CheckpointError: a dtype that safetensors does not know.
    """
    observer.activity("encoding")
    observer.started_bytes(checkpoint.nbytes)
    try:
        level = LEVELS[settings.level] if settings else DEFAULT
        writer.write(checkpoint, stream, level, workers=workers, on_tensor=observer.finished_bytes)
    finally:
        observer.finished()


def decode(
    container: Container,
    pattern: str | None = None,
    *,
    max_memory: int | None = None,
) -> Checkpoint:
    """Return the encoded checkpoint, or the part whose names a pattern matches; a tensor is decoded when it is indexed.

    Raises:
        UsageError: the pattern is no regular expression, or matches no name.
        ContainerError: at indexing, the container is damaged, or a tensor needs more memory than `max_memory` bytes.
    """
    if pattern is None:
        return Checkpoint(container.tensors(max_memory=max_memory), container.metadata)
    try:
        names = [name for name in container.names if re.search(pattern, name)]
    except re.error as error:
        raise UsageError(f"--tensor {pattern!r} is not a regular expression: {error}") from error
    if not names:
        raise UsageError(f"no tensor matches {pattern!r}; there are {layers.listed(container.names)}")
    return Checkpoint(container.tensors(names, max_memory=max_memory), container.metadata)


def evaluate(
    checkpoint: Checkpoint, settings: EvalSettings, observer: Observer = SILENT, *, architecture: str | None = None
) -> Measurement:
    """Measure a checkpoint on the test examples of a data set.

    Raises:
        ArchitectureError: no such network, or the checkpoint does not fit it.
        DataError: the data set cannot be loaded.
        UsageError: a metric that the task does not have is bounded.
    """
    observer.activity("loading torch")
    from dcomp.learning.evaluation import evaluate_checkpoint

    settings = provenance.with_recorded_data(settings, checkpoint, observer)
    try:
        checkpoint = _fitted(checkpoint, architecture, settings, observer)
        return evaluate_checkpoint(checkpoint, _architecture(checkpoint, architecture, settings), settings, observer)
    finally:
        observer.finished()


def sensitivity(
    checkpoint: Checkpoint,
    settings: SensitivitySettings,
    observer: Observer = SILENT,
    *,
    architecture: str | None = None,
) -> "Sensitivity":
    """Measure the errors of a checkpoint with one layer at a time pruned or shared, and choose a plan by them.

    Raises:
        ArchitectureError, CheckpointError, DataError: as `evaluate`.
        UsageError: no weights, or no validation examples.
    """
    from dcomp.compression.sensitivity import measure as measure_sensitivity

    settings = provenance.with_recorded_data(settings, checkpoint, observer)
    checkpoint, network = _under_network_names(checkpoint, architecture, settings, observer)
    weights = choice.weights(checkpoint.tensors, network)
    name = _architecture(checkpoint, architecture, settings)
    return measure_sensitivity(checkpoint, weights, name, settings, observer)


def report(container: Container, dense: Checkpoint | None = None) -> SizeReport:
    """Account for every byte of a container, compared with the dense bytes of its tensors or of another checkpoint.

    Raises:
        ContainerError: a damaged record.
        LimitError: finding the zeros takes more memory than was given to the container.
    """
    sizes = {name: spec.nbytes for name, spec in specs_of(dense.tensors).items()} if dense else None
    return measure_container(container, sizes)


def check_bounds(measurement: Measurement, settings: EvalSettings) -> None:
    """Raise GateError if a metric is not within its bounds; all that are not are named."""
    if missed := [text for bound in settings.bounds if (text := bound.violation(measurement)) is not None]:
        raise GateError("; ".join(missed))


def check_ratio(sizes: SizeReport, settings: ReportSettings) -> None:
    """Raise GateError if the file's ratio is below the requested one."""
    if settings.min_ratio is not None and sizes.ratio < settings.min_ratio:
        raise GateError(f"ratio {sizes.ratio:.2f} is below the {settings.min_ratio:g} required")


def _fitted(checkpoint: Checkpoint, architecture: str | None, settings: DataSettings, observer: Observer) -> Checkpoint:
    """Return the checkpoint under the names of its network, without the prefixes that wrappers add."""
    if prefixes.common(checkpoint.tensors) is None:
        return checkpoint
    return _under_network_names(checkpoint, architecture, settings, observer)[0]


def _under_network_names(
    checkpoint: Checkpoint, architecture: str | None, settings: DataSettings, observer: Observer
) -> tuple[Checkpoint, choice.ParameterNames]:
    """Return the checkpoint under the names of its network, and which of them are parameters, tied ones or buffers."""
    observer.activity("loading torch")
    from dcomp.learning.architectures import outline_of, parameters_of
    from dcomp.learning.architectures.arguments import Arguments

    name = _architecture(checkpoint, architecture, settings)
    network = parameters_of(outline_of(name, Arguments(name, checkpoint, settings).explicit))
    return prefixes.fitted(checkpoint, network), network


def _session(
    checkpoint: Checkpoint, settings: LearningSettings, architecture: str | None, observer: Observer
) -> "Session":
    """Return the learning of a stage, with the checkpoint's network and its data."""
    from dcomp.learning.session import Session

    name = _architecture(checkpoint, architecture, settings)
    return Session(name, checkpoint, settings, observer, teacher=_teacher(settings))


def _teacher(settings: LearningSettings) -> Checkpoint | None:
    """Return the checkpoint whose network teaches; None if the settings name none."""
    return sources.load_checkpoint(settings.distill) if settings.distill is not None else None


def _architecture(checkpoint: Checkpoint, architecture: str | None, settings: DataSettings) -> str:
    """Return the name of a checkpoint's network: the one given, else what its metadata name.

    Raises:
        ArchitectureError: as `architectures.architecture_of`.
    """
    from dcomp.learning.architectures import architecture_of

    return architecture_of(checkpoint, architecture, trusted=settings.trust_code)
