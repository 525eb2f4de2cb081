"""What a network is made with and sees: as a person says, else as the checkpoint records, else as the data needs."""

import json
from collections.abc import Mapping
from typing import Any

from dcomp.checkpoints.checkpoint import ARCHITECTURE_KEY, Checkpoint
from dcomp.errors import ArchitectureError, UsageError
from dcomp.learning.architectures import find
from dcomp.learning.datasets import Split
from dcomp.settings import DataSettings, NetworkSettings

ARGUMENTS_KEY = "dcomp.arguments"
"""Metadata entry of the arguments that are not the network's defaults: a JSON object."""

RESIZE_KEY = "dcomp.resize"
"""Metadata entry of the short side at which the network's photos are stored, if that was given."""


class Arguments:
    """The arguments of a network, as far as they are known before the data is."""

    def __init__(self, architecture: str, checkpoint: Checkpoint | None, settings: DataSettings) -> None:
        """Look at the settings and the checkpoint.

        Raises:
            ArchitectureError: no such network, or the checkpoint's arguments make no sense.
        """
        self._defaults = find(architecture).defaults
        self._explicit = _recorded(checkpoint) | _given(settings)
        self.resize = _recorded_resize(checkpoint) if settings.resize is None else settings.resize
        self._fresh = checkpoint is None or checkpoint.metadata.get(ARCHITECTURE_KEY) != architecture

    @property
    def explicit(self) -> Mapping[str, Any]:
        """Those that someone says or the checkpoint records."""
        return self._explicit

    @property
    def depend_on_data(self) -> bool:
        """Whether those that nobody says are as the data needs them, and not the network's defaults."""
        return self._fresh

    @property
    def crop(self) -> int | None:
        """Height and width that images must have."""
        return self._explicit.get("size")

    @property
    def usual_crop(self) -> int:
        """Height and width of photos where nothing else is known."""
        return self._defaults["size"]

    @property
    def grayscale(self) -> bool | None:
        """Whether images must have one channel, or three."""
        return self._explicit.get("grayscale")

    def complete(self, split: Split) -> dict[str, Any]:
        """All that are not the network's defaults; what is not known yet is as a split of the data needs it."""
        needed = {"classes": split.classes, "grayscale": split.channels == 1, "size": split.size}
        chosen = {key: value for key, value in needed.items() if self._fresh and key in self._defaults} | self._explicit
        return {key: value for key, value in chosen.items() if self._defaults.get(key) != value}


def metadata(arguments: Mapping[str, Any], resize: int | None = None) -> dict[str, str]:
    """The metadata entries that record arguments, and the short side of photos; none for what is not given."""
    made_with = {ARGUMENTS_KEY: json.dumps(arguments, separators=(",", ":"))} if arguments else {}
    return made_with if resize is None else {**made_with, RESIZE_KEY: str(resize)}


def _given(settings: NetworkSettings) -> dict[str, Any]:
    given = {
        "classes": settings.classes,
        "grayscale": settings.grayscale,
        "dropout": settings.dropout,
        "size": settings.crop,
    }
    return {key: value for key, value in given.items() if value is not None}


def _recorded(checkpoint: Checkpoint | None) -> dict[str, Any]:
    """A checkpoint's arguments, which may come from anyone: they are held to what a person may give."""
    text = checkpoint.metadata.get(ARGUMENTS_KEY, "{}") if checkpoint is not None else "{}"
    try:
        recorded = json.loads(text)
        size = recorded.pop("size", None)
        return _given(NetworkSettings.from_options(**recorded, crop=size))
    except (ValueError, TypeError, AttributeError, RecursionError, UsageError) as error:
        raise ArchitectureError(
            f"the checkpoint's {ARGUMENTS_KEY} is {text[:200]!r}, which makes no network"
        ) from error


def _recorded_resize(checkpoint: Checkpoint | None) -> int | None:
    """The short side of photos that a checkpoint records, held likewise to what a person may give."""
    text = checkpoint.metadata.get(RESIZE_KEY) if checkpoint is not None else None
    try:
        return DataSettings.from_options(resize=text).resize
    except UsageError as error:
        raise ArchitectureError(f"the checkpoint's {RESIZE_KEY} is {text!r}, which is no size of photos") from error
