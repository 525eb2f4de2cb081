"""The state of a training: saved in a safetensors file and restored, bit for bit.

The name of a tensor begins with its part: `model.NAME`, `best.NAME`, `optimizer.NUMBER.ENTRY`, `random.NAME` ...
Everything else is one JSON object under the metadata key `dcomp.state`; `dcomp.checksum` covers all of it. Nothing is
pickled.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from dcomp import __version__
from dcomp.checkpoints import safetensors_file
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.checkpoints.dtypes import bit_patterns
from dcomp.checkpoints.tensors import stream
from dcomp.errors import CheckpointError, StoppedError, UsageError
from dcomp.learning.conversion import lazy_arrays, to_torch
from dcomp.progress.resumption import StateFile
from dcomp.settings import LearningSettings
from dcomp.settings.base import option_of
from dcomp.system.files import replacing

STATE_KEY = "dcomp.state"
CHECKSUM_KEY = "dcomp.checksum"
REMEDY = "remove it, and start the stage again"

Parts = dict[str, Mapping[str, Tensor]]
"""Tensors of a state by part, like `model`, and by name."""


@dataclass(frozen=True)
class Origin:
    """The inputs of a stage. All of them must be the same when its state is restored.

    Attributes:
        stage: the kind of its settings.
        arguments: all settings that change the result.
        source: digest of the tensors that training began with, if it began with any, and of a teacher's.
        version: of dcomp.
    """

    stage: str
    arguments: Mapping[str, Any]
    source: str
    version: str

    @classmethod
    def of(cls, settings: LearningSettings, *checkpoints: Checkpoint | None) -> Self:
        """Return the origin of a stage with these settings."""
        source = _digest(*(checkpoint.tensors for checkpoint in checkpoints if checkpoint is not None))
        return cls(type(settings).__name__, settings.arguments(), source, __version__)


class Keeper:
    """A file with the state of one stage, which it saves from time to time and restores."""

    def __init__(self, file: StateFile, origin: Origin) -> None:
        """Take the file of the state, and the origin of the stage."""
        self.file = file
        self._origin = origin
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time for the next save."""
        return time.monotonic() - self._saved >= self.file.every

    def save(self, parts: Parts, facts: Mapping[str, Any]) -> None:
        """Replace the file.

        Raises:
            OutputError: it cannot be written.
        """
        named = {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
        arrays = lazy_arrays(named)
        text = json.dumps({"origin": asdict(self._origin), **facts})
        metadata = {STATE_KEY: text, CHECKSUM_KEY: _digest(arrays, text=text)}
        with replacing(self.file.path, force=True) as file:
            safetensors_file.save(Checkpoint(arrays, metadata), file)
        self._saved = time.monotonic()

    def stopped(self, done: int) -> StoppedError:
        """Return the error to raise after the last save; `done` epochs of the training are done."""
        where = f"epoch {self.file.before + done + 1} of {self._origin.arguments['epochs']}"
        return StoppedError(f"stopped in {where}; the state is in {self.file.path}")

    def load(self) -> tuple[Parts, dict[str, Any]] | None:
        """Return what was saved, if the stage is to be resumed; else None.

        Raises:
            CheckpointError: the file is no state, or a damaged one.
            UsageError: the state was made from something else.
        """
        if not self.file.resume:
            return None
        checkpoint, parts = self._read(), dict[str, dict[str, Tensor]]()
        try:
            facts = json.loads(checkpoint.metadata[STATE_KEY])
            self._compare(Origin(**facts["origin"]))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"{self.file.path} is not the state of a stopped run; {REMEDY}") from error
        for name in checkpoint.tensors:
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = to_torch(checkpoint.tensors[name])
        return dict(parts), facts

    def _read(self) -> Checkpoint:
        """Read the file and check its checksum.

        Raises:
            CheckpointError: the file cannot be read, or is damaged.
        """
        try:
            checkpoint = safetensors_file.load_file(self.file.path)
        except CheckpointError as error:
            raise CheckpointError(f"{error}; {REMEDY}") from error
        if not {STATE_KEY, CHECKSUM_KEY} <= checkpoint.metadata.keys():
            raise CheckpointError(f"{self.file.path} is not the state of a stopped run; {REMEDY}")
        if _digest(checkpoint.tensors, text=checkpoint.metadata[STATE_KEY]) != checkpoint.metadata[CHECKSUM_KEY]:
            raise CheckpointError(f"{self.file.path} is damaged: its checksum does not match; {REMEDY}")
        return checkpoint

    def _compare(self, saved: Origin) -> None:
        """Raise UsageError if a saved state has another origin, and name the difference."""
        expected, hint = self._origin, "start again with --force and no --resume"
        if saved.stage != expected.stage or saved.version != expected.version:
            raise UsageError(f"{self.file.path} was made by another command or version of dcomp; {hint}")
        for name in sorted({*expected.arguments, *saved.arguments}):
            before, now = saved.arguments.get(name), expected.arguments.get(name)
            if before != now:
                raise UsageError(
                    f"{self.file.path} was made with {option_of(name)} {before}, not {now}; give the same, or {hint}"
                )
        if saved.source != expected.source:
            raise UsageError(f"{self.file.path} was made from another checkpoint; give the same, or {hint}")


def _digest(*tensors: Mapping[str, np.ndarray], text: str = "") -> str:
    """Return the SHA-256 of names, dtypes, shapes and bits of arrays, and of a text."""
    digest = hashlib.sha256()
    for name, array in chain.from_iterable(map(stream, tensors)):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(bit_patterns(array).data)
    digest.update(text.encode())
    return digest.hexdigest()


def optimizer_parts(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state of an optimizer by `NUMBER.ENTRY` of its parameters: first tensors, then all else."""
    entries = {
        f"{number}.{key}": value
        for number, memory in optimizer.state_dict()["state"].items()
        for key, value in memory.items()
    }
    tensors = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
    return tensors, {name: value for name, value in entries.items() if name not in tensors}


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]
) -> None:
    """Restore what `optimizer_parts` returned."""
    memory: dict[int, dict[str, Any]] = {}
    for name, value in {**tensors, **plain}.items():
        number, _, key = name.partition(".")
        memory.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": memory, "param_groups": optimizer.state_dict()["param_groups"]})


def random_state(generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
    """Return the states of random generators: of this one, of torch on the CPU, and of the device."""
    states = {"own": generator.get_state(), "cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random(states: Mapping[str, Tensor], generator: torch.Generator, device: torch.device) -> None:
    """Restore what `random_state` returned."""
    generator.set_state(states["own"])
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
