"""The folder of a run: the names of its files, its lock, and which files it may replace."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from dcomp.errors import OutputError
from dcomp.progress.resumption import StateFile
from dcomp.runs import ledger
from dcomp.settings.recipe import STAGES, Recipe
from dcomp.system import locks
from dcomp.system.files import check_replaceable, check_writable, make_folder

CONTAINER = "model.dcz"
SUMMARY = "summary.json"
LOCK = ".dcomp.lock"
TENSORBOARD = "tensorboard"


def checkpoint_name(stage: str) -> str:
    """Return the name of the checkpoint that a stage writes."""
    return f"{stage}.safetensors"


def log_name(stage: str) -> str:
    """Return the name of the CSV file that a stage writes while it trains."""
    return f"{stage}.csv"


class RunFolder:
    """A folder for all outputs of one run."""

    def __init__(self, path: Path) -> None:
        """Create the folder where it does not exist.

        Raises:
            OutputError: it cannot be created.
        """
        self.path = path
        self.container = path / CONTAINER
        self.summary = path / SUMMARY
        self._new_folders = [folder for folder in (path, *path.parents) if not folder.exists()]
        make_folder(path)

    def checkpoint(self, stage: str) -> Path:
        """Return the path of the checkpoint that a stage writes."""
        return self.path / checkpoint_name(stage)

    def log(self, stage: str) -> Path:
        """Return the path of the CSV file that a stage writes while it trains."""
        return self.path / log_name(stage)

    def events(self, stage: str) -> Path:
        """Return the folder in which a stage writes TensorBoard's files."""
        return self.path / TENSORBOARD / stage

    def state(self, stage: str, fingerprint: str) -> Path:
        """Return the path of the state of a stage that is stopped while it trains."""
        return self.path / f"{checkpoint_name(stage)}.{fingerprint[:12]}.state"

    def check(self, recipe: Recipe, *, force: bool, tensorboard: bool) -> None:
        """Check that all outputs of a recipe can be written, and that no other file is lost.

        Raises:
            OutputError: the folder is not writable; a folder has the name of an output; an output would replace a file
                that the recipe reads; or, without `force`, a file that no run has written.
        """
        stages = sorted({*STAGES, *(stage for stage, _ in recipe.sections)})
        outputs = [
            *(name for stage in stages for name in (checkpoint_name(stage), log_name(stage))),
            CONTAINER,
            SUMMARY,
        ]
        self._check_names([*outputs, ledger.NAME, LOCK], tensorboard=tensorboard)
        self._check_inputs(recipe)
        if not force and not (self.path / ledger.NAME).exists():
            for name in outputs:
                check_replaceable(self.path / name, force=False)

    def _check_names(self, files: Sequence[str], *, tensorboard: bool) -> None:
        """Raise OutputError if an output is a folder instead of a file, or a file instead of a folder."""
        check_writable(self.path)
        for path in (self.path / name for name in files):
            if path.is_dir():
                raise OutputError(f"{path} is a folder, but must be a file; name another --out")
        if tensorboard and (self.path / TENSORBOARD).is_file():
            raise OutputError(f"{self.path / TENSORBOARD} is a file, but must be a folder; name another --out")

    def _check_inputs(self, recipe: Recipe) -> None:
        """Raise OutputError if a stage would replace a file that it or a later stage reads."""
        inputs = [(recipe.checkpoint, 0)] if recipe.checkpoint is not None else []
        inputs += [
            (path, n) for n, (_, section) in enumerate(recipe.sections) for path in section.named_checkpoints().values()
        ]
        for source, number in inputs:
            later = [stage for stage, _ in recipe.sections[number:]]
            for output in (*map(self.checkpoint, later), *map(self.log, later), self.container):
                if source.exists() and output.exists() and output.samefile(source):
                    raise OutputError(f"the recipe reads {output}, which the run would replace; name another --out")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the folder during a block; a new folder is removed if it stays empty.

        Raises:
            OutputError: another process works in the folder.
        """
        try:
            with locks.exclusive(self.path / LOCK, str(self.path)):
                yield
        finally:
            with suppress(OSError):  # it is not empty
                for folder in self._new_folders:
                    folder.rmdir()

    def remove_summary(self) -> None:
        """Remove the summary of an earlier run."""
        self.summary.unlink(missing_ok=True)

    def remove_logs(self, stage: str) -> None:
        """Remove the logs of an earlier run of a stage."""
        self.log(stage).unlink(missing_ok=True)
        shutil.rmtree(self.events(stage), ignore_errors=True)

    def remove_states(self, stage: str, keep: Path | None = None) -> None:
        """Remove the states of earlier runs of a stage, except for the one to keep."""
        for path in self.path.glob(f"{checkpoint_name(stage)}.*.state"):
            if path != keep:
                StateFile(path).remove()
