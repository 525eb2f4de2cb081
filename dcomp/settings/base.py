"""The base class of all settings, and the messages for their mistakes."""

from collections.abc import Collection, Mapping
from pathlib import Path
from reprlib import Repr
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails

from dcomp.errors import UsageError, did_you_mean
from dcomp.settings import requirements

RUNTIME_SETTINGS = {"data_dir", "device", "cache", "workers", "threads", "compile", "trust_code"}
"""Settings that change how a stage runs, but not its result, except for rounding."""

CHECKPOINT_KEYS = ("distill", "rewind", "mask")
"""Settings that name a checkpoint, apart from the one that a stage changes."""

COMMAND_LINE = "command line"
"""The validation context in which messages name options, like `--val-split`, and not keys, like `val_split`."""

SHORT = Repr()
"""Shortens invalid values in messages."""

SHORT.maxstring = SHORT.maxother = SHORT.maxlong = 80


class Section(dict[str, Any]):
    """A section of a recipe, together with the keys that it inherits from the recipe.

    Attributes:
        inherited: the keys that the recipe has and the section itself does not.
        overridden: the keys of the section that `--set` has written.
    """

    def __init__(self, written: Mapping[str, Any], shared: Mapping[str, Any], overridden: Collection[str] = ()) -> None:
        super().__init__({**shared, **written})
        self.inherited = shared.keys() - written.keys()
        self.overridden = set(overridden)


class Settings(BaseModel):
    """Base of all settings: unknown keys are mistakes, values do not change after validation.

    The order of fields is that of the notes in the metadata of checkpoints.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)

    @model_validator(mode="wrap")
    @classmethod
    def _check_requirements(cls, written: Any, validate: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        settings = validate(written)
        section = written if isinstance(written, Section) else Section({}, {})
        spell = option_of if info.context == COMMAND_LINE else str
        if messages := list(requirements.violations(settings, section.inherited, section.overridden, spell)):
            raise ValueError("; ".join(messages))
        return settings

    @classmethod
    def from_options(cls, spellings: Mapping[str, str] | None = None, /, **options: Any) -> Self:
        """Return settings made from command-line options; None or an empty list means that the user did not set it.

        Args:
            spellings: names of the fields that are not options, like `ARCHITECTURE`, by field.
            options: values by field.

        Raises:
            UsageError: mistakes, all of them in one message.
        """
        names = {key: field.alias or key for key, field in cls.model_fields.items()}
        values = {names.get(key, key): value for key, value in options.items() if value is not None and value != []}
        try:
            return cls.model_validate(values, context=COMMAND_LINE)
        except ValidationError as error:
            names = {key: option_of(key) for key, _ in mistakes(error)} | dict(spellings or {})
            lines = [f"{names[key]}: {problem}" if key else problem for key, problem in mistakes(error)]
            raise UsageError("; ".join(lines)) from error

    def arguments(self, *, defaults: bool = True) -> dict[str, Any]:
        """Return the settings that affect the result, as plain data; leave default values out unless `defaults`."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=not defaults, exclude=RUNTIME_SETTINGS)

    def named_files(self) -> dict[str, Path]:
        """Return the files that these settings name, by key; what a stage makes depends on their bytes."""
        return self.named_checkpoints()

    def named_checkpoints(self) -> dict[str, Path]:
        """Return the checkpoints that these settings name, by key."""
        return {key: path for key in CHECKPOINT_KEYS if (path := getattr(self, key, None)) is not None}


def option_of(field: str) -> str:
    """Return the option of a field, like `--val-split`."""
    return f"--{field.replace('_', '-')}"


def mistakes(
    error: ValidationError, lists: Collection[str] = (), settings: type[Settings] | None = None
) -> list[tuple[str, str]]:
    """Return the dotted key and the message of each mistake.

    Args:
        error: what pydantic raised.
        lists: names of the sections that are lists; their dotted keys hold the number of the section, from 1.
        settings: the class that was validated; its keys are suggested for unknown ones.
    """
    return [(_dotted(detail["loc"], lists), _explained(detail, settings)) for detail in error.errors()]


def settings_class(annotation: Any) -> type[Settings] | None:
    """Return the class of a section from the annotation of its field; None for a field that is no section."""
    options = [annotation, *getattr(annotation, "__args__", ())]
    return next((kind for kind in options if isinstance(kind, type) and issubclass(kind, Settings)), None)


def _dotted(path: tuple[int | str, ...], lists: Collection[str]) -> str:
    if len(path) > 1 and path[0] in lists and isinstance(path[1], int):
        path = (path[0], str(path[1] + 1), *path[2:])
    return ".".join(str(part) for part in path if not isinstance(part, int))


def _explained(detail: ErrorDetails, settings: type[Settings] | None) -> str:
    message = detail["msg"].removeprefix("Value error, ")
    match detail["type"]:
        case "model_type" | "dict_type":
            return f"should be a section of keys and values, not {SHORT.repr(detail['input'])}"
        case "extra_forbidden":
            return f"there is no such key{_hint(detail['loc'], settings)}"
        case "missing":
            return "is missing"
        case "value_error":
            return message
        case _:
            return f"{message[0].lower()}{message[1:]}, not {SHORT.repr(detail['input'])}"


def _hint(path: tuple[int | str, ...], settings: type[Settings] | None) -> str:
    """Return where an unknown key belongs, or a key that it may mean."""
    key, keys = str(path[-1]), _keys_at(path[:-1], settings)
    if len(path) > 1 and key in _keys_at((), settings):
        return "; it stands above the sections"
    return did_you_mean(key, keys)


def _keys_at(path: tuple[int | str, ...], settings: type[Settings] | None) -> list[str]:
    """Return the keys of the section at this path."""
    for part in path:
        if settings is not None and isinstance(part, str):
            settings = settings_class(settings.model_fields[part].annotation)
    return [field.alias or key for key, field in settings.model_fields.items()] if settings is not None else []
