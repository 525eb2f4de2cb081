"""The arguments of a network: from the options, else from the checkpoint's metadata, else as the data needs them."""

import json
from collections.abc import Mapping
from typing import Any

from dcomp.checkpoints.checkpoint import ARCHITECTURE_KEY, Checkpoint
from dcomp.errors import ArchitectureError, UsageError
from dcomp.learning.architectures import find, recorded_name
from dcomp.settings import DataSettings, NetworkSettings
from dcomp.settings.fields import TRANSFORMERS

ARGUMENTS_KEY = "dcomp.arguments"
"""Metadata entry of the arguments that are not the network's defaults: a JSON object."""

CONFIG = "config"
"""The argument of a network of Transformers: the content of its config.json, as its folder may not be elsewhere."""

RESIZE_KEY = "dcomp.resize"
"""Metadata entry of the short side at which the network's photos are stored, if that was given."""


class Arguments:
    """The arguments of a network, as far as they do not depend on the data."""

    def __init__(self, architecture: str, checkpoint: Checkpoint | None, settings: DataSettings) -> None:
        """Read the settings and the checkpoint's metadata.

        Raises:
            ArchitectureError: no such network, or the checkpoint's arguments are not valid.
        """
        self._defaults = find(architecture).defaults
        self._fresh = checkpoint is None or recorded_name(checkpoint) != architecture
        self._explicit = self._configured(architecture, checkpoint) | _arguments(settings)
        self.resize = _recorded_resize(checkpoint) if settings.resize is None else settings.resize

    @property
    def explicit(self) -> Mapping[str, Any]:
        """Those that the settings or the checkpoint's metadata have."""
        return self._explicit

    @property
    def depend_on_data(self) -> bool:
        """Whether the data decide all other arguments, instead of the network's defaults."""
        return self._fresh

    @property
    def crop(self) -> int | None:
        """Height and width that images must have."""
        return self._explicit.get("size")

    @property
    def usual_crop(self) -> int:
        """Height and width of photos, unless `crop` says otherwise."""
        return self._defaults["size"]

    @property
    def grayscale(self) -> bool | None:
        """Whether images must have one channel, or three."""
        return self._explicit.get("grayscale")

    def _configured(self, architecture: str, checkpoint: Checkpoint | None) -> dict[str, Any]:
        """Return a checkpoint's arguments, with the config if the network is one of Transformers.

        Raises:
            ArchitectureError: neither a checkpoint nor a folder has a config.
        """
        recorded = _recorded(checkpoint)
        config = recorded.pop(CONFIG, None)
        if not architecture.startswith(TRANSFORMERS):
            return recorded
        from dcomp.learning.architectures import transformers_networks

        if checkpoint is None or self._fresh:
            config = transformers_networks.read_config(architecture.removeprefix(TRANSFORMERS))
        elif config is None:
            config = transformers_networks.config_beside(checkpoint)
        if config is None:
            raise ArchitectureError(
                f"the checkpoint records no config of {architecture}; add --arch {TRANSFORMERS}FOLDER"
            )
        return recorded | {CONFIG: config}

    def complete(self, needed: Mapping[str, Any]) -> dict[str, Any]:
        """Return all arguments that are not the network's defaults.

        Args:
            needed: those that the examples decide where nothing else gives them.
        """
        chosen = {key: value for key, value in needed.items() if self._fresh and key in self._defaults} | self._explicit
        return {key: value for key, value in chosen.items() if self._defaults.get(key) != value}


def metadata(arguments: Mapping[str, Any], resize: int | None = None) -> dict[str, str]:
    """Return the metadata entries of arguments and of the short side of photos, except None and empty ones.

    A network of Transformers is named by its class there: the folder that a person named may not be elsewhere.
    """
    entries = {ARGUMENTS_KEY: json.dumps(arguments, separators=(",", ":"))} if arguments else {}
    if CONFIG in arguments:
        entries[ARCHITECTURE_KEY] = f"{TRANSFORMERS}{arguments[CONFIG]['architectures'][0]}"
    return entries if resize is None else {**entries, RESIZE_KEY: str(resize)}


def _arguments(settings: NetworkSettings) -> dict[str, Any]:
    arguments = {
        "classes": settings.classes,
        "grayscale": settings.grayscale,
        "dropout": settings.dropout,
        "size": settings.crop,
    }
    return {key: value for key, value in arguments.items() if value is not None}


def _recorded(checkpoint: Checkpoint | None) -> dict[str, Any]:
    """Return a checkpoint's arguments. They may come from anyone, so they are validated like a person's options."""
    text = checkpoint.metadata.get(ARGUMENTS_KEY, "{}") if checkpoint is not None else "{}"
    try:
        recorded = json.loads(text)
        size, config = recorded.pop("size", None), recorded.pop(CONFIG, None)
        arguments = _arguments(NetworkSettings.from_options(**recorded, crop=size))
        return arguments if config is None else {**arguments, CONFIG: dict(config)}
    except (ValueError, TypeError, AttributeError, RecursionError, UsageError) as error:
        raise ArchitectureError(
            f"the checkpoint's {ARGUMENTS_KEY} is {text[:200]!r}, which no network takes"
        ) from error


def _recorded_resize(checkpoint: Checkpoint | None) -> int | None:
    """Return the short side of photos in a checkpoint's metadata, validated likewise."""
    text = checkpoint.metadata.get(RESIZE_KEY) if checkpoint is not None else None
    try:
        return DataSettings.from_options(resize=text).resize
    except UsageError as error:
        raise ArchitectureError(f"the checkpoint's {RESIZE_KEY} is {text!r}, which is no size of photos") from error
