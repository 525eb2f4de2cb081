"""Notes in a checkpoint's metadata about its history: settings of its stages, and the epochs of the last training.

They are optional. Where a person names no data set, the one in the notes is used.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TypeVar

from dcomp import __version__
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.errors import UsageError
from dcomp.learning.factories import check_trusted
from dcomp.progress.observer import EpochRecord, Observer
from dcomp.settings import DataSettings, LearningSettings
from dcomp.settings.recipe import STAGES

VERSION_KEY, HISTORY_KEY = "dcomp.version", "dcomp.history"
NOTE_KEYS = (VERSION_KEY, HISTORY_KEY, *(f"dcomp.{stage}" for stage in STAGES))
"""All entries that are notes."""

Data = TypeVar("Data", bound=DataSettings)


def with_notes(
    checkpoint: Checkpoint,
    stage: str,
    settings: LearningSettings,
    history: Sequence[EpochRecord] = (),
) -> Checkpoint:
    """Return the checkpoint with the notes of a stage that its settings ask for: `full`, `settings` alone, or `none`.

    Args:
        checkpoint: the result of the stage, with the notes of earlier stages.
        stage: its name.
        settings: its arguments; defaults are left out, and are those of the version noted.
        history: its epochs, if it trained.
    """
    metadata = dict(checkpoint.metadata)
    if settings.provenance != "full":
        metadata.pop(HISTORY_KEY, None)
    if settings.provenance == "none":
        return Checkpoint(checkpoint.tensors, {key: text for key, text in metadata.items() if key not in NOTE_KEYS})
    metadata |= {VERSION_KEY: __version__, f"dcomp.{stage}": _compact(settings.arguments(defaults=False))}
    if history and settings.provenance == "full":
        metadata[HISTORY_KEY] = _compact([record.rounded() for record in history])
    return Checkpoint(checkpoint.tensors, metadata)


def with_recorded_data(settings: Data, checkpoint: Checkpoint, observer: Observer) -> Data:
    """Return the settings with a data set: the one that they name, else the one of the checkpoint's last training.

    A checkpoint may come from anyone, so code that it names is run only where the settings trust it.

    Raises:
        UsageError: neither names any, or the checkpoint names code that the settings do not trust.
    """
    if settings.data is not None:
        return settings
    named = _recorded_data(checkpoint.metadata)
    if named is None:
        raise UsageError("a data set is needed, and the checkpoint records none: name one in data (--data), like mnist")
    family, separator, _ = named.partition(":")
    if separator and family not in ("imagefolder", "imagenette"):
        check_trusted(named, "--data", UsageError, trusted=settings.trust_code)
    observer.note(f"data: {named}, as the checkpoint records")
    return settings.model_copy(update={"data": named})


def _recorded_data(metadata: Mapping[str, str]) -> str | None:
    """Return the data set that the notes of the latest stage name; None if no notes do."""
    for stage in reversed(STAGES):
        try:
            recorded = json.loads(metadata.get(f"dcomp.{stage}", "{}"))
            named = recorded.get("data") if isinstance(recorded, dict) else None
            if named is not None:
                return DataSettings.from_options(data=named).data
        except (ValueError, RecursionError, UsageError):
            continue
    return None


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
