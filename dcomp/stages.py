"""One function per command: settings and a checkpoint in, a checkpoint or a result out.

What needs torch is imported inside the functions that learn, so that the others run without it.
"""

import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from dcomp import __version__, layers, shards
from dcomp import checkpoint as safetensors_file
from dcomp.checkpoint import Checkpoint
from dcomp.coding.level import DEFAULT, LEVELS
from dcomp.container import writer
from dcomp.container.reader import DEFAULT_MAX_MEMORY, Container
from dcomp.errors import CheckpointError, GateError, UsageError
from dcomp.observer import EpochRecord, Observer, Silent
from dcomp.pruning import budget, criteria
from dcomp.quantization import kmeans
from dcomp.reporting.sizes import SizeReport, measure
from dcomp.resumption import StateFile
from dcomp.settings import (
    EncodeSettings,
    EvalSettings,
    LearningSettings,
    PruneSettings,
    QuantizeSettings,
    ReportSettings,
    Settings,
    TrainSettings,
)

if TYPE_CHECKING:
    from dcomp.learning.evaluation import Evaluation
    from dcomp.learning.session import Session

WEIGHTS: tuple[layers.Kind, ...] = ("conv", "linear")
HISTORY_KEY = "dcomp.history"
SILENT = Silent()


def train(
    settings: TrainSettings,
    observer: Observer = SILENT,
    *,
    start: Checkpoint | None = None,
    state: StateFile | None = None,
) -> Checkpoint:
    """Train a network from scratch, or on from a checkpoint, whose zeros and shared values then hold.

    Returns:
        the best epoch by validation error, with architecture, arguments and history as metadata.

    Raises:
        StoppedError: Ctrl-C or SIGTERM came; `state` holds what it takes to go on.
    """
    from dcomp.learning.session import Session

    session = Session(settings.architecture, start, settings)
    if start is not None and (held := session.hold(layers.select(start.tensors, WEIGHTS))):
        observer.note(f"{', '.join(held)}: what is pruned or shared stays so")
    history = session.fit(observer, start_counts=start is not None, state=state)
    metadata = start.metadata if start is not None else {}
    return Checkpoint(
        session.tensors(), {**metadata, **session.metadata(), **_provenance("train", settings, history, metadata)}
    )


def prune(
    checkpoint: Checkpoint,
    settings: PruneSettings,
    observer: Observer = SILENT,
    *,
    architecture: str | None = None,
    state: StateFile | None = None,
) -> Checkpoint:
    """Set weights to zero until the sparsity asked for is the sparsity found.

    Without epochs in one shot, in numpy; with epochs while the network retrains (paper, section 2).

    Raises:
        UsageError: no such layers.
        CheckpointError: weights that are not finite.
        StoppedError: Ctrl-C or SIGTERM came; `state` holds what it takes to go on.
    """
    weights = _weights(checkpoint, settings.kinds)
    groups = _pruning_groups(weights, settings)
    score = _score_function(weights, settings)
    if settings.epochs:
        checkpoint = _prune_and_retrain(checkpoint, settings, groups, score, observer, architecture, state)
    else:
        masks = budget.masks(weights, groups, score)
        pruned = {name: np.where(mask & (weights[name] != 0), weights[name], 0) for name, mask in masks.items()}
        checkpoint = checkpoint.replaced(pruned, _provenance("prune", settings))
    for group in groups:
        found = budget.sparsity_of(checkpoint.tensors, group.names)
        kept = sum(np.count_nonzero(checkpoint.tensors[name]) for name in group.names)
        total = sum(weights[name].size for name in group.names)
        observer.note(f"{', '.join(group.names)}: sparsity {found:.4f}, {kept:,} of {total:,} weights kept")
        if kept < criteria.kept_count(total, group.sparsity):
            observer.note(f"sparsity {group.sparsity:g} was asked for, but more weights than that were zero already")
    return checkpoint


def quantize(
    checkpoint: Checkpoint,
    settings: QuantizeSettings,
    observer: Observer = SILENT,
    *,
    architecture: str | None = None,
    state: StateFile | None = None,
) -> Checkpoint:
    """Let the kept weights of each tensor share at most 2^bits values (paper, section 3).

    With epochs the shared values then train, while zeros and sharing hold.

    Raises:
        UsageError: no such layers.
        CheckpointError: weights that are not finite.
        StoppedError: Ctrl-C or SIGTERM came; `state` holds what it takes to go on.
    """
    shared: dict[str, np.ndarray] = {}
    rng = np.random.default_rng(settings.seed)
    for kind in settings.bits_of_kind:
        if not layers.select(checkpoint.tensors, (kind,)):
            observer.note(f"the checkpoint has no {kind} tensor to quantize")
    for name, bits in _bits_of_tensors(checkpoint, settings).items():
        weights = checkpoint.tensors[name]
        kept = weights[weights != 0]
        codebook, codes = kmeans.share(kept, bits, settings.init, rng)
        shared[name] = np.zeros_like(weights)
        shared[name][weights != 0] = codebook[codes]
        if codebook.size < 2**bits:
            observer.note(f"{name}: {codebook.size} values, fewer than the {2**bits} that {bits} bits allow")
    checkpoint = checkpoint.replaced(shared, _provenance("quantize", settings))
    if settings.epochs:
        session = _session(checkpoint, settings, architecture)
        session.share(shared)
        session.hold(layers.select(checkpoint.tensors, WEIGHTS))
        history = session.fit(observer, start_counts=True, state=state)
        checkpoint = checkpoint.replaced(
            session.tensors(), session.metadata() | _provenance("quantize", settings, history)
        )
    return checkpoint


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
    observer.started_bytes(checkpoint.nbytes)
    try:
        level = LEVELS[settings.level] if settings else DEFAULT
        writer.write(checkpoint, stream, level, workers=workers, on_tensor=observer.advanced)
    finally:
        observer.finished()


def save(checkpoint: Checkpoint, stream: BinaryIO, observer: Observer = SILENT) -> None:
    """Write a checkpoint as a safetensors file, one tensor after the other.

    Raises:
        CheckpointError: names that a safetensors file cannot hold.
        ContainerError: the checkpoint is read from a container, and that is damaged.
    """
    observer.started_bytes(checkpoint.nbytes)
    try:
        safetensors_file.save(checkpoint, stream, observer.advanced)
    finally:
        observer.finished()


def save_shards(checkpoint: Checkpoint, folder: Path, observer: Observer = SILENT) -> None:
    """Write the shards that a checkpoint was read from, and their index.

    Raises:
        CheckpointError: the metadata do not describe shards, or not those of these tensors.
        ContainerError: the checkpoint is read from a container, and that is damaged.
    """
    observer.started_bytes(checkpoint.nbytes)
    try:
        shards.save_folder(checkpoint, folder, observer.advanced)
    finally:
        observer.finished()


def decode(
    container: Container,
    pattern: str | None = None,
    *,
    max_memory: int = DEFAULT_MAX_MEMORY,
) -> Checkpoint:
    """The checkpoint that was encoded, each tensor decoded when it is asked for; with a pattern, those that it finds.

    Raises:
        UsageError: the pattern is no regular expression, or finds nothing.
        ContainerError: then, if the container is damaged, or a tensor needs more memory than `max_memory` bytes.
    """
    if pattern is None:
        return Checkpoint(container.tensors(max_memory=max_memory), container.metadata)
    try:
        names = [name for name in container.names if re.search(pattern, name)]
    except re.error as error:
        raise UsageError(f"--tensor {pattern!r} is not a regular expression: {error}") from error
    if not names:
        raise UsageError(f"no tensor matches {pattern!r}; there are {', '.join(container.names)}")
    return Checkpoint(container.tensors(names, max_memory=max_memory), container.metadata)


def evaluate(checkpoint: Checkpoint, settings: EvalSettings, *, architecture: str | None = None) -> "Evaluation":
    """Measure a checkpoint's errors on the test examples of a data set.

    Raises:
        ArchitectureError: no such network, or the checkpoint does not fit it.
        DataError: the data set cannot be had.
    """
    from dcomp.learning.architectures import architecture_of
    from dcomp.learning.session import evaluate_checkpoint

    return evaluate_checkpoint(checkpoint, architecture_of(checkpoint, architecture), settings)


def report(container: Container, dense: Checkpoint | None = None) -> SizeReport:
    """Account for every byte of a container, against its own dense size or that of another checkpoint.

    Raises:
        ContainerError: a damaged record.
    """
    return measure(container, {name: array.nbytes for name, array in dense.tensors.items()} if dense else None)


def check_error(top1_error: float, settings: EvalSettings) -> None:
    """Raise GateError if the top-1 error, in percent, is above the one allowed."""
    if settings.max_error is not None and top1_error > settings.max_error:
        raise GateError(f"top-1 error {top1_error:.2f} % is above the {settings.max_error:g} % allowed")


def check_ratio(sizes: SizeReport, settings: ReportSettings) -> None:
    """Raise GateError if the file's ratio is below the one asked for."""
    if settings.min_ratio is not None and sizes.ratio < settings.min_ratio:
        raise GateError(f"ratio {sizes.ratio:.2f} is below the {settings.min_ratio:g} asked for")


def _prune_and_retrain(
    checkpoint: Checkpoint,
    settings: PruneSettings,
    groups: list[budget.Group],
    score: budget.Score,
    observer: Observer,
    architecture: str | None,
    state: StateFile | None,
) -> Checkpoint:
    session = _session(checkpoint, settings, architecture)
    names = [name for group in groups for name in group.names]
    if shared := session.shared(names):
        observer.note(f"{', '.join(shared)}: weights were shared; retraining gives each its own value, quantize again")
    session.mask({name: checkpoint.tensors[name] != 0 for name in names})
    session.hold(layers.select(checkpoint.tensors, WEIGHTS))
    schedule = settings.mask_schedule(session.last_step)
    initial = {group: budget.sparsity_of(checkpoint.tensors, group.names) for group in groups}
    moves = schedule.moves()

    def move_masks(due: float) -> None:
        now = [budget.Group(group.names, schedule.sparsity(due, initial[group], group.sparsity)) for group in groups]
        session.mask(budget.masks({name: session.weights(name) for name in names}, now, score))

    events = [(due, partial(move_masks, due)) for due in moves]
    history = session.fit(observer, events=events, eligible_after=moves[-1], state=state)
    return checkpoint.replaced(session.tensors(), session.metadata() | _provenance("prune", settings, history))


def _pruning_groups(weights: Mapping[str, np.ndarray], settings: PruneSettings) -> list[budget.Group]:
    if settings.criterion == "std":
        assert settings.threshold is not None  # the settings have checked it
        return budget.by_deviation(weights, settings.threshold, settings.rules)
    return budget.by_sparsity(weights, settings.sparsity, together=settings.scope == "global", rules=settings.rules)


def _score_function(weights: Mapping[str, np.ndarray], settings: PruneSettings) -> budget.Score:
    if settings.criterion != "random":
        return lambda name, array: criteria.magnitude(array)
    rng = np.random.default_rng(settings.seed)
    chance = {name: criteria.random(array, rng) for name, array in weights.items()}  # drawn once, so masks only shrink
    return lambda name, array: np.where(array != 0, chance[name], 0)


def _bits_of_tensors(checkpoint: Checkpoint, settings: QuantizeSettings) -> dict[str, int]:
    by_kind = settings.bits_of_kind
    candidates = layers.select(checkpoint.tensors, {*WEIGHTS, *by_kind})
    kinds = {name: layers.kind_of(name, checkpoint.tensors[name]) for name in candidates}
    bits = {name: by_kind[kind] for name, kind in kinds.items() if kind in by_kind}
    bits |= {name: int(value) for name, value in layers.apply_rules(candidates, settings.rules).items()}
    if not bits:
        raise UsageError(f"the checkpoint has no {' or '.join(by_kind)} tensor to quantize")
    _check_finite({name: checkpoint.tensors[name] for name in bits})
    return bits


def _weights(checkpoint: Checkpoint, kinds: tuple[layers.Kind, ...]) -> dict[str, np.ndarray]:
    weights = {name: checkpoint.tensors[name] for name in layers.select(checkpoint.tensors, kinds)}
    if not weights:
        raise UsageError(f"the checkpoint has no {' or '.join(kinds)} weights")
    _check_finite(weights)
    return weights


def _check_finite(weights: Mapping[str, np.ndarray]) -> None:
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"{name} holds infinities or NaNs, which cannot be pruned or shared")


def _session(checkpoint: Checkpoint, settings: LearningSettings, architecture: str | None) -> "Session":
    from dcomp.learning.architectures import architecture_of
    from dcomp.learning.session import Session

    return Session(architecture_of(checkpoint, architecture), checkpoint, settings)


def _provenance(
    stage: str,
    settings: Settings,
    history: list[EpochRecord] | None = None,
    before: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Metadata that tells how a stage was run.

    Args:
        stage: its name.
        settings: its arguments; defaults are left out, and are those of the version noted.
        history: its epochs, if it trained.
        before: metadata whose history this one goes on from.
    """
    metadata = {"dcomp.version": __version__, f"dcomp.{stage}": _compact(settings.arguments(defaults=False))}
    if history:
        earlier = _earlier_history(before or {})
        epochs = [{**record.rounded(), "epoch": len(earlier) + record.epoch} for record in history]
        metadata[HISTORY_KEY] = _compact([*earlier, *epochs])
    return metadata


def _earlier_history(metadata: Mapping[str, str]) -> list[object]:
    """The history in a checkpoint's metadata; none if it is not ours."""
    try:
        history = json.loads(metadata.get(HISTORY_KEY, "[]"))
    except ValueError:
        return []
    return history if isinstance(history, list) else []


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
