"""A recipe from start to end: every stage's checkpoint in one folder, and a summary of what each came to.

Beside the checkpoints stands `stages.json`: for each stage done, a fingerprint of its settings and of all before
it, and the digest of the file it wrote. A rerun skips the stages whose fingerprints and files are unchanged, and a
run beside others takes up what one of them has done under the same fingerprint.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from dcomp.checkpoints import safetensors_file
from dcomp.checkpoints import layers
from dcomp.runs import ledger, preflight
from dcomp.system import locks
from dcomp.compression import provenance
from dcomp import sources, stages
from dcomp.container import verification
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.container import layout
from dcomp.container.reader import Container
from dcomp.errors import DcompError, OutputError
from dcomp.system.files import check_replaceable, check_writable, link_or_copy, replacing
from dcomp.progress.csv_log import Journal
from dcomp.runs.ledger import DoneStage, Errors
from dcomp.progress.observer import Observer, Together
from dcomp.runs.preflight import CHECKPOINTS
from dcomp.pruning.budget import sparsity_of
from dcomp.settings.recipe import STAGES, Recipe, StageSettings
from dcomp.reporting.sizes import SizeReport
from dcomp.progress.resumption import SAVE_EVERY, StateFile
from dcomp.settings import DataSettings, FinetuneSettings, PruneSettings, QuantizeSettings, Settings, TrainSettings

AnySettings = TypeVar("AnySettings", bound=Settings)

CONTAINER = "model.dcz"
SUMMARY = "summary.json"
LOCK = ".dcomp.lock"
TENSORBOARD = "tensorboard"


@dataclass(frozen=True)
class StageResult:
    """What a stage came to.

    Zeros are those among the weights of layers; kept are the elements of all tensors that are not zero, as in a report.
    Errors in percent on the test examples, None where the recipe has no section eval.
    """

    stage: str
    file: str
    bytes: int
    sparsity: float
    kept_percent: float
    top1_error: float | None
    top5_error: float | None
    loss: float | None
    seconds: float


@dataclass(frozen=True)
class Summary:
    """A run: its stages in order, and where the bytes of its container go."""

    name: str
    results: list[StageResult]
    sizes: SizeReport

    def as_dict(self) -> dict[str, Any]:
        """The summary as plain data."""
        results = [asdict(result) for result in self.results]
        return {"name": self.name, "ratio": self.sizes.ratio, "stages": results, "sizes": self.sizes.as_dict()}


class Run:
    """A recipe's run in a folder."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        observer: Observer | None = None,
        *,
        force: bool = False,
        save_every: float = SAVE_EVERY,
        tensorboard: bool = False,
        others: Sequence[Path] = (),
    ) -> None:
        """Make the folder and read which stages are done; with `force` none are.

        Args:
            recipe: what to run.
            folder: where all outputs go.
            observer: told of progress.
            force: run every stage again.
            save_every: seconds between saves of a stage's state while it trains.
            tensorboard: write TensorBoard's files to `tensorboard/STAGE`.
            others: folders of runs whose stages are taken up where they are the same as here.

        Raises:
            OutputError: the folder cannot be made, or holds files of these names that no run has made, or folders, or
                a checkpoint that the recipe reads.
        """
        self._recipe = recipe
        self._folder = folder
        self._observer = observer or Observer()
        self._force = force
        self._save_every = save_every
        self._tensorboard = tensorboard
        self._others = others
        self._fingerprint = ""
        self._start: Checkpoint | None = None
        self._last: str | None = None
        self._checked = False
        self._new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from error
        made = {*STAGES, *(stage for stage, _ in recipe.sections)}
        names = [name for stage in sorted(made) for name in (_file_of(stage), _journal_of(stage))]
        self._check_folder([*names, CONTAINER, SUMMARY])
        self._done: dict[str, DoneStage] = {} if force else ledger.read(folder)

    def _check_folder(self, names: Sequence[str]) -> None:
        """Refuse a folder in which outputs of these names cannot be written, or not without loss."""
        check_writable(self._folder)
        for name in (*names, ledger.NAME, LOCK):
            if (self._folder / name).is_dir():
                raise OutputError(f"{self._folder / name} is a folder where a file is written; name another --out")
        if self._tensorboard and (self._folder / TENSORBOARD).is_file():
            raise OutputError(f"{self._folder / TENSORBOARD} is a file where a folder is written; name another --out")
        for read, number in self._read_files():
            later = [stage for stage, _ in self._recipe.sections[number:]]
            for path in (self._folder / name for name in (*map(_file_of, later), *map(_journal_of, later), CONTAINER)):
                if path.exists() and path.samefile(read):
                    raise OutputError(f"{path} is read by the recipe; name another --out")
        if not (self._folder / ledger.NAME).exists() and not self._force:
            for name in names:
                check_replaceable(self._folder / name, force=False)

    def _read_files(self) -> list[tuple[Path, int]]:
        """The files that the recipe names and that are there, each with the number of the section that reads it."""
        sections = enumerate(settings for _, settings in self._recipe.sections)
        named = [(getattr(settings, key, None), number) for number, settings in sections for key in CHECKPOINTS]
        return [(path, number) for path, number in [(self._recipe.checkpoint, 0), *named] if path and path.exists()]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """A block in which no other process works in the folder; a new folder goes again if it stays empty."""
        try:
            with locks.held(self._folder / LOCK, str(self._folder)):
                if not self._force:
                    self._done = ledger.read(self._folder)  # another may have been at work since
                yield
        finally:
            with suppress(OSError):  # it holds something
                for folder in self._new_folders:
                    folder.rmdir()

    def run(self) -> Summary:
        """Run what is not done yet and write summary.json.

        Raises:
            OutputError: another process works in the folder.
            DcompError: a stage failed; the stages before it are kept.
        """
        with self._alone():
            current, results = self._shaped()
            results.append(self._encode(current))
            sizes = stages.report(Container.open(self._folder / CONTAINER))
            summary = Summary(self._recipe.name, results, sizes)
            text = json.dumps(summary.as_dict(), indent=2) + "\n"
            self._write(SUMMARY, lambda file: file.write(text.encode()))
        return summary

    def prepare(self, last: str) -> None:
        """Run what is not done yet of the stages up to one of them, and leave the others to a later run.

        Raises:
            OutputError: another process works in the folder.
            DcompError: a stage failed; the stages before it are kept.
        """
        with self._alone():
            self._shaped(last)

    def check_bounds(self, summary: Summary) -> None:
        """Hold a summary against the recipe's `report.min_ratio` and `eval.max_error`.

        Raises:
            GateError: one of them is missed.
        """
        stages.check_ratio(summary.sizes, self._recipe.report)
        error = summary.results[-1].top1_error
        if self._recipe.eval is not None and error is not None:
            stages.check_error(error, self._recipe.eval)

    def _work(
        self, settings: StageSettings, current: Checkpoint | None
    ) -> Callable[..., Checkpoint]:
        """What a stage does, with the checkpoint of the one before."""
        if isinstance(settings, TrainSettings):
            return partial(stages.train, settings)
        assert current is not None  # the recipe has checked that it starts somewhere
        work: dict[type[Settings], Callable[..., Checkpoint]]
        work = {PruneSettings: stages.prune, FinetuneSettings: stages.finetune, QuantizeSettings: stages.quantize}
        return partial(work[type(settings)], current, settings, architecture=self._recipe.trusted_architecture)

    def _shaped(self, last: str | None = None) -> tuple[Checkpoint, list[StageResult]]:
        """Train, prune and share, or go no further than the stage `last`."""
        current: Checkpoint | None = None
        results: list[StageResult] = []
        if self._recipe.checkpoint is not None:
            current = sources.load_checkpoint(self._recipe.checkpoint)
            self._fingerprint = sources.digest(self._recipe.checkpoint)
            if self._recipe.lacks_data:
                named = provenance.with_recorded_data(DataSettings(), current, self._observer).data
                self._recipe = self._recipe.with_data(str(named))
        self._start, self._last = current, last
        for stage, section in self._recipe.sections:
            settings = self._resolved(section, before=[result.stage for result in results])
            current, result = self._stage(stage, settings, self._work(settings, current))
            results.append(result)
            if stage == last:
                break
        assert current is not None  # a recipe has at least one section, or a checkpoint
        return current, results

    def _resolved(self, settings: AnySettings, before: Collection[str]) -> AnySettings:
        """The settings with the files of this run where they name its stages before."""
        named = {key: str(getattr(settings, key, None)) for key in CHECKPOINTS}
        files = {key: self._folder / _file_of(stage) for key, stage in named.items() if stage in before}
        return settings.model_copy(update=files)

    def _stage(self, stage: str, settings: Settings, work: Callable[..., Checkpoint]) -> tuple[Checkpoint, StageResult]:
        """Do a stage that makes a checkpoint, or go on with it, or take it up from its file."""
        name = _file_of(stage)
        if self._is_done(stage, name, settings):
            made = safetensors_file.load_file(self._folder / name)
        else:
            started = self._begin(stage)
            state = self._state_of(stage, name)
            if not state.resume:
                self._forget_logs(stage)
            made = work(observer=self._watcher_of(stage), state=state)
            self._write(name, lambda file: safetensors_file.save(made, file))
            self._record(stage, name, made, time.perf_counter() - started)
            state.remove()
        return made, self._result(stage, made)

    def _encode(self, checkpoint: Checkpoint) -> StageResult:
        """Encode, decode again and compare; errors are those of what was decoded."""
        done = self._is_done("encode", CONTAINER, self._recipe.encode, maker=layout.VERSION)
        if not done:
            started = self._begin("encode")
            self._write(CONTAINER, lambda file: stages.encode(checkpoint, file, self._recipe.encode))
            seconds = time.perf_counter() - started
        decoded = Container.open(self._folder / CONTAINER).checkpoint()
        if not verification.identical(decoded, checkpoint):
            raise DcompError("decoding did not give the encoded checkpoint back; please report this")
        if not done:
            self._record("encode", CONTAINER, decoded, seconds)
        return self._result("encode", decoded)

    def _begin(self, stage: str) -> float:
        """Say that a stage runs, mark the folder as a run's, and remove the summary of an earlier run."""
        self._observer.stage(stage)
        if not self._checked:
            files = {stage: self._folder / _file_of(stage) for stage, _ in self._recipe.sections}
            preflight.check(self._recipe, self._start, self._last, files)
            self._checked = True
        self._observer.note(f"{stage}: running")
        self._write_state()
        (self._folder / SUMMARY).unlink(missing_ok=True)
        return time.perf_counter()

    def _watcher_of(self, stage: str) -> Observer:
        """Those who watch a stage: a CSV file, if it trains, and TensorBoard besides the run's own observer."""
        watchers: list[Observer] = [self._observer, Journal(self._folder / _journal_of(stage))]
        if self._tensorboard:
            from dcomp.learning.tensorboard import Curves

            watchers.append(Curves(self._folder / TENSORBOARD / stage))
        return Together(*watchers)

    def _forget_logs(self, stage: str) -> None:
        """Remove what an earlier run of the stage has logged."""
        (self._folder / _journal_of(stage)).unlink(missing_ok=True)
        shutil.rmtree(self._folder / TENSORBOARD / stage, ignore_errors=True)

    def _state_of(self, stage: str, name: str) -> StateFile:
        """Where a stage keeps its state; it is taken up if it was run in the same way before, and was stopped."""
        path = self._folder / f"{name}.{self._fingerprint[:12]}.state"
        for other in self._folder.glob(f"{name}.*.state"):
            if other != path or self._force:
                StateFile(other).remove()
        if path.exists():
            self._observer.note(f"{stage}: was stopped before, {path} is taken up")
        return StateFile(path, resume=path.exists(), every=self._save_every)

    def _record(self, stage: str, name: str, made: Checkpoint, seconds: float) -> None:
        """Remember that a stage is done, before anything else can fail."""
        weights = layers.select(made.tensors, layers.WEIGHTS)
        self._done[stage] = DoneStage(
            fingerprint=self._fingerprint,
            digest=sources.digest(self._folder / name),
            file=name,
            bytes=(self._folder / name).stat().st_size,
            sparsity=round(float(sparsity_of(made.tensors, weights)), 6),
            kept_percent=made.kept_percent(),
            seconds=round(seconds, 3),
            errors={},
        )
        self._write_state()

    def _result(self, stage: str, made: Checkpoint) -> StageResult:
        """What a stage came to; its errors are measured where they are not known for this data set."""
        entry, judge = self._done[stage], self._recipe.eval
        errors: dict[str, float | None] = dict.fromkeys(Errors.model_fields)
        if judge is not None:
            if judge.examples not in entry.errors:
                measured = stages.evaluate(made, judge, self._observer, architecture=self._recipe.trusted_architecture)
                entry.errors[judge.examples] = Errors(**{name: round(getattr(measured, name), 6) for name in errors})
                self._write_state()
            errors = entry.errors[judge.examples].model_dump()
        kept = made.kept_percent() if entry.kept_percent is None else entry.kept_percent
        return StageResult(stage, entry.file, entry.bytes, entry.sparsity, kept, seconds=entry.seconds, **errors)

    def _is_done(self, stage: str, name: str, settings: Settings, *, maker: int | None = None) -> bool:
        """Extend the fingerprint by this stage, and see whether its file was made under the same one.

        A stage that is cheap to do again names the version of what makes its file.
        """
        own = settings.arguments()
        own |= {key: sources.digest(path) for key in CHECKPOINTS if (path := getattr(settings, key, None)) is not None}
        text = json.dumps([self._fingerprint, stage, own, *([maker] if maker else [])], sort_keys=True)
        self._fingerprint = hashlib.sha256(text.encode()).hexdigest()
        known = _has(self._folder, name, self._done.get(stage), self._fingerprint)
        if not known and not self._take_over(stage, name):
            return False
        self._observer.note(f"{stage}: done before, {self._folder / name} is taken up")
        return True

    def _take_over(self, stage: str, name: str) -> bool:
        """Take a stage's file up from another run that has done the same, if one has."""
        for other in self._others:
            entry = _entry_in(other, stage)
            if entry is None or not _has(other, name, entry, self._fingerprint):
                continue
            self._write_state()
            (self._folder / SUMMARY).unlink(missing_ok=True)
            for state in self._folder.glob(f"{name}.*.state"):
                StateFile(state).remove()
            link_or_copy(other / name, self._folder / name)
            if (other / _journal_of(stage)).exists():  # a copy: a journal is written in place
                shutil.copyfile(other / _journal_of(stage), self._folder / _journal_of(stage))
            self._done[stage] = entry
            self._write_state()
            return True
        return False

    def _write_state(self) -> None:
        text = ledger.as_json(self._done)
        self._write(ledger.NAME, lambda file: file.write(text.encode()))

    def _write(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        with replacing(self._folder / name, force=True) as file:
            write(file)


def _entry_in(folder: Path, stage: str) -> DoneStage | None:
    """What another run says of a stage, if anything that can be read."""
    try:
        return ledger.read(folder).get(stage)
    except OutputError:
        return None


def _has(folder: Path, name: str, entry: DoneStage | None, fingerprint: str) -> bool:
    """Whether a file is there as a stage made it, under this fingerprint."""
    if entry is None or (entry.fingerprint, entry.file) != (fingerprint, name) or not (folder / name).is_file():
        return False
    return (folder / name).stat().st_size == entry.bytes and sources.digest(folder / name) == entry.digest


def _file_of(stage: str) -> str:
    return f"{stage}.safetensors"


def _journal_of(stage: str) -> str:
    return f"{stage}.csv"
