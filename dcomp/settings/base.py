"""What all settings have in common, and how their mistakes are told."""

from collections.abc import Collection, Mapping
from reprlib import Repr
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
)

from dcomp.errors import UsageError

WITHOUT_EFFECT = {"data_dir", "device", "cache", "workers", "threads", "compile"}
"""Settings that change how a stage is run and not what comes out (but for rounding)."""

SHORT = Repr()
"""How wrong values are quoted."""

SHORT.maxstring = SHORT.maxother = SHORT.maxlong = 80


class Settings(BaseModel):
    """Base of all settings: unknown keys are mistakes, values do not change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)

    @classmethod
    def from_options(cls, called: Mapping[str, str] | None = None, /, **options: Any) -> Self:
        """Validate command-line options; those that are None or empty lists were not given.

        Args:
            called: what a person calls those that are no options of their names, like `ARCHITECTURE`.
            options: by the names of fields.

        Raises:
            UsageError: all mistakes, by option.
        """
        names = {key: field.alias or key for key, field in cls.model_fields.items()}
        given = {names.get(key, key): value for key, value in options.items() if value is not None and value != []}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            names = {key: f"--{key.replace('_', '-')}" for key, _ in mistakes(error)} | dict(called or {})
            found = [f"{names[key]}: {what}" if key else what for key, what in mistakes(error)]
            raise UsageError("; ".join(found)) from error

    def changes(self, *names: str) -> bool:
        """Whether one of these differs from its default; a command line gives defaults as it gives all else."""
        return any(getattr(self, name) != type(self).model_fields[name].default for name in names)

    def arguments(self, *, defaults: bool = True) -> dict[str, Any]:
        """What decides about the outcome, as plain data; without `defaults` only what differs from them."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=not defaults, exclude=WITHOUT_EFFECT)


def mistakes(error: ValidationError, lists: Collection[str] = ()) -> list[tuple[str, str]]:
    """Each mistake as (dotted key, what is wrong with it), in plain words.

    Args:
        error: what pydantic found.
        lists: the sections that were given as lists; their keys have the number of the section, from 1.
    """
    found = []
    for detail in error.errors():
        path = detail["loc"]
        if len(path) > 1 and path[0] in lists and isinstance(path[1], int):
            path = (path[0], str(path[1] + 1), *path[2:])
        keys = [str(part) for part in path if not isinstance(part, int)]
        what = detail["msg"].removeprefix("Value error, ")
        if detail["type"] in ("model_type", "dict_type"):
            what = f"should be a section of keys and values, not {SHORT.repr(detail['input'])}"
        elif detail["type"] == "extra_forbidden":
            what = "there is no such key"
        elif detail["type"] == "missing":
            what = "is missing"
        elif detail["type"] != "value_error":
            what = f"{what[0].lower()}{what[1:]}, not {SHORT.repr(detail['input'])}"
        found.append((".".join(keys), what))
    return found
