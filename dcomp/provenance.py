"""What a checkpoint's metadata tell of how it was made: settings of its stages, and the epochs of the last training."""

import json
from collections.abc import Mapping, Sequence

from dcomp import __version__
from dcomp.checkpoint import Checkpoint
from dcomp.observer import EpochRecord
from dcomp.settings import LearningSettings

VERSION_KEY, HISTORY_KEY = "dcomp.version", "dcomp.history"
STAGES = ("train", "prune", "quantize")
NOTES = (VERSION_KEY, HISTORY_KEY, *(f"dcomp.{stage}" for stage in STAGES))
"""All entries that tell how a checkpoint was made, and that nothing needs."""


def noted(
    checkpoint: Checkpoint,
    stage: str,
    settings: LearningSettings,
    history: Sequence[EpochRecord] = (),
    before: Mapping[str, str] | None = None,
) -> Checkpoint:
    """The checkpoint with notes of a stage, as far as its settings want any: `full`, `settings` alone, or `none`.

    Args:
        checkpoint: what the stage made, with the notes of the stages before.
        stage: its name.
        settings: its arguments; defaults are left out, and are those of the version noted.
        history: its epochs, if it trained.
        before: metadata whose history this one goes on from.
    """
    metadata = dict(checkpoint.metadata)
    if settings.provenance != "full":
        metadata.pop(HISTORY_KEY, None)
    if settings.provenance == "none":
        return Checkpoint(checkpoint.tensors, {key: text for key, text in metadata.items() if key not in NOTES})
    metadata |= {VERSION_KEY: __version__, f"dcomp.{stage}": _compact(settings.arguments(defaults=False))}
    if history and settings.provenance == "full":
        earlier = _history_of(before or {})
        epochs = [{**record.rounded(), "epoch": len(earlier) + record.epoch} for record in history]
        metadata[HISTORY_KEY] = _compact([*earlier, *epochs])
    return Checkpoint(checkpoint.tensors, metadata)


def _history_of(metadata: Mapping[str, str]) -> list[object]:
    """The history in a checkpoint's metadata; none if it is not ours."""
    try:
        history = json.loads(metadata.get(HISTORY_KEY, "[]"))
    except (ValueError, RecursionError):
        return []
    return history if isinstance(history, list) else []


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
