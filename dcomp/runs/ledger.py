"""stages.json: which stages of a run are done, under which fingerprint, and what each came to."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from dcomp.errors import OutputError

NAME = "stages.json"

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Errors(_Strict):
    """Errors in percent and the loss on the test examples of a data set."""

    top1_error: float
    top5_error: float
    loss: float


class DoneStage(_Strict):
    """A stage that is done.

    Attributes:
        fingerprint: digest of its settings and of all before it.
        digest: of the file that it wrote.
        file: that file's name.
        bytes: its size.
        sparsity: of the weights in it.
        kept_percent: of all elements in it those that are not zero; None if it was written before that was kept.
        seconds: how long the stage took.
        errors: by data set.
    """

    fingerprint: Digest
    digest: Digest
    file: str
    bytes: int = Field(ge=0)
    sparsity: float
    kept_percent: float | None = None
    seconds: float
    errors: dict[str, Errors]


def read(folder: Path) -> dict[str, DoneStage]:
    """The stages that are done in a folder, none where there is no stages.json.

    Raises:
        OutputError: it is damaged.
    """
    path = folder / NAME
    try:
        return TypeAdapter(dict[str, DoneStage]).validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        raise OutputError(f"{path} is damaged; --force runs every stage again") from error


def as_json(entries: Mapping[str, DoneStage]) -> str:
    """The text of the file."""
    return json.dumps({stage: entry.model_dump() for stage, entry in entries.items()}, indent=2) + "\n"
