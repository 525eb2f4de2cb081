"""stages.json: which stages of a run are done, under which fingerprints, and with which results.

A *fingerprint* is a digest of a stage's settings, of the files that they name, and of all stages before it. The file of
a stage is used again where the fingerprint is the same, and the file still has the digest that was recorded.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, TypeAdapter, ValidationError

from dcomp import sources
from dcomp.errors import OutputError
from dcomp.progress.measurement import Measurement
from dcomp.settings import Settings
from dcomp.system.files import link_or_copy, replacing

NAME = "stages.json"

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Percent = Annotated[float, Field(ge=0, le=100)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


Measured = Annotated[Measurement, PlainValidator(Measurement.of), PlainSerializer(Measurement.as_dict)]
"""Metrics on the test examples of a data set."""


class DoneStage(_Strict):
    """A stage that is done.

    Attributes:
        fingerprint: digest of its settings and of all stages before it.
        digest: of the file that it wrote.
        file: that file's name.
        bytes: that file's size.
        sparsity: of the weights in it, from 0 to 1.
        kept_percent: the elements of all tensors that are not zero; None in a file of an older version.
        seconds: how long the stage took.
        errors: what was measured, by data set.
    """

    fingerprint: Digest
    digest: Digest
    file: str
    bytes: int = Field(ge=0, lt=1 << 63)
    sparsity: float = Field(ge=0, le=1)
    kept_percent: Percent | None = None
    seconds: float = Field(ge=0)
    errors: dict[str, Measured]


def fingerprint_after(
    previous: str, stage: str, settings: Settings, files: Mapping[str, Path], version: int | None = None
) -> str:
    """Compute the fingerprint of a stage from that of the stage before.

    Args:
        previous: fingerprint of the stage before; of the first stage, the digest of the checkpoint that the run starts
            from, or "".
        stage: its name.
        settings: its settings.
        files: those that the settings name, by key; their bytes count, not their paths.
        version: of the format that the stage writes; a new version gives a new fingerprint.

    Returns:
        a SHA-256 in hexadecimal.

    Raises:
        CheckpointError: one of the files cannot be read.
    """
    arguments = settings.arguments() | {key: sources.digest(path) for key, path in files.items()}
    parts = [previous, stage, arguments] if version is None else [previous, stage, arguments, version]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Ledger:
    """The stages that are done in a folder.

    Attributes:
        folder: the folder of stages.json and of the files of the stages.
    """

    def __init__(self, folder: Path, stages: Mapping[str, DoneStage] | None = None) -> None:
        """Take the stages that are done in a folder; nothing is written yet."""
        self.folder = folder
        self._stages = dict(stages or {})

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read stages.json; without one no stage is done.

        Raises:
            OutputError: it is damaged.
        """
        path = folder / NAME
        try:
            return cls(folder, TypeAdapter(dict[str, DoneStage]).validate_json(path.read_bytes()))
        except FileNotFoundError:
            return cls(folder)
        except (OSError, ValidationError) as error:
            raise OutputError(f"{path} is damaged; --force runs every stage again") from error

    def __getitem__(self, stage: str) -> DoneStage:
        return self._stages[stage]

    def lookup(self, stage: str, file: str, fingerprint: str) -> DoneStage | None:
        """Return the record of a stage if it is done under this fingerprint and its file is intact, else None."""
        done, path = self._stages.get(stage), self.folder / file
        if done is None or (done.fingerprint, done.file) != (fingerprint, file) or not path.is_file():
            return None
        return done if path.stat().st_size == done.bytes and sources.digest(path) == done.digest else None

    def adopt(self, stage: str, source: "Ledger") -> None:
        """Link or copy the file of a stage from the folder of another run, and record the stage as done here.

        Raises:
            OutputError: the file or stages.json cannot be written.
        """
        done = source[stage]
        link_or_copy(source.folder / done.file, self.folder / done.file)
        self.record(stage, done)

    def record(self, stage: str, done: DoneStage) -> None:
        """Record a stage as done, and write stages.json.

        Raises:
            OutputError: it cannot be written.
        """
        self._stages[stage] = done
        self.write()

    def write(self) -> None:
        """Write stages.json, which also marks the folder as the folder of a run.

        Raises:
            OutputError: it cannot be written.
        """
        content = {stage: done.model_dump() for stage, done in self._stages.items()}
        with replacing(self.folder / NAME, force=True) as file:
            file.write((json.dumps(content, indent=2) + "\n").encode())
