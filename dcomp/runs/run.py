"""A run of a recipe: every stage's checkpoint in one folder, and a summary of their results.

A rerun skips the stages that are done (`ledger`), and resumes the stage that was stopped. A run of a sweep adopts the
stages that another run has done under the same fingerprint.
"""

import json
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

from dcomp import sources, stages
from dcomp.checkpoints import layers, safetensors_file
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.compression import provenance
from dcomp.container import layout, verification
from dcomp.container.reader import Container
from dcomp.errors import CheckpointError, DcompError, OutputError
from dcomp.progress.csv_log import Journal
from dcomp.progress.observer import Observer, Together
from dcomp.progress.resumption import SAVE_EVERY, StateFile
from dcomp.pruning.budget import sparsity_of
from dcomp.runs import preflight
from dcomp.runs.folder import RunFolder
from dcomp.runs.ledger import DoneStage, Ledger, fingerprint_after
from dcomp.runs.summary import StageResult, Summary
from dcomp.settings import DataSettings, FinetuneSettings, PruneSettings, QuantizeSettings, Settings, TrainSettings
from dcomp.settings.recipe import Recipe, StageSettings
from dcomp.system.files import replacing

AnySettings = TypeVar("AnySettings", bound=Settings)


class Run:
    """A run of a recipe in a folder."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        observer: Observer | None = None,
        *,
        force: bool = False,
        save_every: float = SAVE_EVERY,
        tensorboard: bool = False,
        wandb: str | None = None,
        other_runs: Sequence[Path] = (),
    ) -> None:
        """Create the folder and read which stages are done.

        Args:
            recipe: the recipe.
            folder: for all outputs.
            observer: of all stages.
            force: run every stage again.
            save_every: seconds between two saves of a stage's state while it trains.
            tensorboard: write TensorBoard's files to `tensorboard/STAGE`.
            wandb: the project of Weights & Biases to log to; each stage is a run, the recipe its group.
            other_runs: folders of other runs; their files are used for stages that they have done.

        Raises:
            OutputError: the folder cannot be created, stages.json is damaged, or an output would replace a file that
                no run has written.
        """
        self._recipe = recipe
        self._folder = RunFolder(folder)
        self._observer = observer or Observer()
        self._force = force
        self._save_every = save_every
        self._tensorboard = tensorboard
        self._wandb = wandb
        self._other_runs = other_runs
        self._preflight: Callable[[], None] = lambda: None
        self._folder.check(recipe, force=force, tensorboard=tensorboard)
        self._ledger = Ledger(folder) if force else Ledger.read(folder)

    def run(self) -> Summary:
        """Run all stages that are not done, and write summary.json.

        Raises:
            OutputError: another process works in the folder.
            DcompError: a stage failed; the stages before it are kept.
        """
        with self._locked():
            checkpoint, fingerprint, results = self._compressed()
            results.append(self._encode(checkpoint, fingerprint))
            sizes = stages.report(Container.open(self._folder.container))
            summary = Summary(self._recipe.name, results, sizes)
            with replacing(self._folder.summary, force=True) as file:
                file.write((json.dumps(summary.as_dict(), indent=2) + "\n").encode())
        return summary

    def prepare(self, last: str) -> None:
        """Run the stages up to `last` that are not done; a later run continues after it.

        Raises:
            OutputError: another process works in the folder.
            DcompError: a stage failed; the stages before it are kept.
        """
        with self._locked():
            self._compressed(last)

    def check_bounds(self, summary: Summary) -> None:
        """Compare a summary with the recipe's `report.min_ratio`, `eval.max_error`, `eval.max` and `eval.min`.

        Raises:
            GateError: one of them is missed.
        """
        stages.check_ratio(summary.sizes, self._recipe.report)
        measured = summary.results[-1].measured
        if self._recipe.eval is not None and measured is not None:
            stages.check_bounds(measured, self._recipe.eval)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes out of the folder, and read the stages that are done."""
        with self._folder.locked():
            if not self._force:
                self._ledger = Ledger.read(self._folder.path)
            yield

    def _compressed(self, last: str | None = None) -> tuple[Checkpoint, str, list[StageResult]]:
        """Run the stages that write checkpoints; end after the stage `last`.

        Returns:
            the last checkpoint, its fingerprint, and the results of the stages.
        """
        checkpoint, fingerprint = self._start(last)
        results: list[StageResult] = []
        for stage, section in self._recipe.sections:
            settings = self._with_files(section, [result.stage for result in results])
            fingerprint = fingerprint_after(fingerprint, stage, settings, settings.named_files())
            checkpoint = self._stage(stage, settings, checkpoint, fingerprint)
            results.append(self._result(stage, checkpoint))
            if stage == last:
                break
        assert checkpoint is not None  # a recipe has a section train, or a checkpoint
        return checkpoint, fingerprint, results

    def _start(self, last: str | None) -> tuple[Checkpoint | None, str]:
        """Read the checkpoint that the recipe starts from, if it names one.

        Returns:
            that checkpoint, and the digest of its file; None and "" without one.
        """
        checkpoint, digest = None, ""
        if self._recipe.checkpoint is not None:
            checkpoint = sources.load_checkpoint(self._recipe.checkpoint)
            digest = sources.digest(self._recipe.checkpoint)
            if self._recipe.lacks_data:
                settings = provenance.with_recorded_data(
                    DataSettings(trust_code=self._recipe.trust_code), checkpoint, self._observer
                )
                self._recipe = self._recipe.with_data(str(settings.data))
        outputs = {stage: self._folder.checkpoint(stage) for stage, _ in self._recipe.sections}
        self._preflight = cache(partial(preflight.check, self._recipe, checkpoint, last, outputs))
        return checkpoint, digest

    def _with_files(self, settings: AnySettings, stages_before: Collection[str]) -> AnySettings:
        """Replace names of earlier stages, in settings that name a checkpoint, by the files of this run."""
        named = {key: str(path) for key, path in settings.named_checkpoints().items()}
        files = {key: self._folder.checkpoint(name) for key, name in named.items() if name in stages_before}
        return settings.model_copy(update=files)

    def _stage(
        self,
        stage: str,
        settings: StageSettings,
        previous: Checkpoint | None,
        fingerprint: str,
    ) -> Checkpoint:
        """Run a stage that writes a checkpoint, or read the checkpoint where the stage is done."""
        path = self._folder.checkpoint(stage)
        if self._reuse(stage, path, fingerprint):
            return safetensors_file.load_file(path)
        self._begin(stage)
        start = time.perf_counter()
        state = self._state(stage, fingerprint)
        if not state.resume:
            self._folder.remove_logs(stage)
        work = self._work(settings, previous)
        checkpoint = work(observer=self._observer_of(stage, settings), state=state)
        with replacing(path, force=True) as file:
            safetensors_file.save(checkpoint, file)
        self._record(stage, path, checkpoint, fingerprint, time.perf_counter() - start)
        state.remove()
        return checkpoint

    def _work(self, settings: StageSettings, previous: Checkpoint | None) -> Callable[..., Checkpoint]:
        """Return the function of a stage, with its settings and the checkpoint of the stage before."""
        if isinstance(settings, TrainSettings):
            return partial(stages.train, settings)
        assert previous is not None  # a recipe starts with train or a checkpoint
        work: dict[type[Settings], Callable[..., Checkpoint]]
        work = {PruneSettings: stages.prune, FinetuneSettings: stages.finetune, QuantizeSettings: stages.quantize}
        return partial(work[type(settings)], previous, settings, architecture=self._recipe.trusted_architecture)

    def _encode(self, checkpoint: Checkpoint, fingerprint: str) -> StageResult:
        """Encode the checkpoint, decode the container, and check that both are identical."""
        path, settings = self._folder.container, self._recipe.encode
        fingerprint = fingerprint_after(fingerprint, "encode", settings, {}, layout.VERSION)
        is_done = self._reuse("encode", path, fingerprint)
        if not is_done:
            self._begin("encode")
            start = time.perf_counter()
            with replacing(path, force=True) as file:
                stages.encode(checkpoint, file, settings)
            seconds = time.perf_counter() - start
        if not verification.identical(Container.open(path).checkpoint(), checkpoint):
            raise DcompError("the decoded container differs from the encoded checkpoint; please report this")
        if not is_done:
            self._record("encode", path, checkpoint, fingerprint, seconds)
        return self._result("encode", checkpoint)

    def _reuse(self, stage: str, path: Path, fingerprint: str) -> bool:
        """Use the file of a stage that this run, or another run, has done; return whether there is one."""
        is_done = self._ledger.lookup(stage, path.name, fingerprint) is not None
        if not is_done and not self._adopt(stage, path.name, fingerprint):
            return False
        self._observer.note(f"{stage}: done before, {path} is used again")
        return True

    def _adopt(self, stage: str, file: str, fingerprint: str) -> bool:
        """Use the file and the log of a stage that another run has done; return whether there is such a run.

        A run is skipped where its stages.json is damaged, or its file goes away meanwhile.
        """
        for folder in self._other_runs:
            with suppress(FileNotFoundError):
                other = self._other_run(folder, stage, file, fingerprint)
                if other is not None:
                    self._ledger.write()
                    self._folder.remove_summary()
                    self._ledger.adopt(stage, other)
                    self._copy_log(stage, folder)
                    self._folder.remove_states(stage)
                    return True
        return False

    def _other_run(self, folder: Path, stage: str, file: str, fingerprint: str) -> Ledger | None:
        """Return the ledger of another run if that has done a stage; None if it is damaged."""
        try:
            other = Ledger.read(folder)
            return other if other.lookup(stage, file, fingerprint) is not None else None
        except (OutputError, CheckpointError):
            return None

    def _copy_log(self, stage: str, folder: Path) -> None:
        """Copy the log of a stage from another folder, if it has one; a link would change with the original."""
        log = self._folder.log(stage)
        with suppress(FileNotFoundError):
            shutil.copyfile(folder / log.name, log)

    def _begin(self, stage: str) -> None:
        """Report a stage, check the recipe before the first one that runs, and remove the summary of an earlier run."""
        self._observer.stage(stage)
        self._preflight()
        self._observer.note(f"{stage}: running")
        self._ledger.write()
        self._folder.remove_summary()

    def _observer_of(self, stage: str, settings: StageSettings) -> Observer:
        """Return the observers of a stage: that of the run, a CSV file and those of other loggers."""
        observers: list[Observer] = [self._observer, Journal(self._folder.log(stage))]
        if self._tensorboard:
            from dcomp.learning.tensorboard import Curves

            observers.append(Curves(self._folder.events(stage)))
        if self._wandb is not None:
            from dcomp.progress.weights_and_biases import Logged

            arguments, note = settings.arguments(), self._observer.note
            observers.append(Logged(self._wandb, stage, arguments, note, group=self._recipe.name))
        return Together(*observers)

    def _state(self, stage: str, fingerprint: str) -> StateFile:
        """Return the state file of a stage, to resume it if it was stopped; remove states of earlier runs."""
        path = self._folder.state(stage, fingerprint)
        self._folder.remove_states(stage, keep=None if self._force else path)
        if path.exists():
            self._observer.note(f"{stage}: was stopped before, continues from {path}")
        return StateFile(path, resume=path.exists(), every=self._save_every)

    def _record(self, stage: str, path: Path, checkpoint: Checkpoint, fingerprint: str, seconds: float) -> None:
        """Record a stage as done, before anything else can fail."""
        weights = layers.select(checkpoint.tensors, layers.WEIGHTS)
        done = DoneStage(
            fingerprint=fingerprint,
            digest=sources.digest(path),
            file=path.name,
            bytes=path.stat().st_size,
            sparsity=round(float(sparsity_of(checkpoint.tensors, weights)), 6),
            kept_percent=checkpoint.kept_percent(),
            seconds=round(seconds, 3),
            errors={},
        )
        self._ledger.record(stage, done)

    def _result(self, stage: str, checkpoint: Checkpoint) -> StageResult:
        """Return the results of a stage that is done; measure its errors unless the ledger has them."""
        done, settings = self._ledger[stage], self._recipe.eval
        measured = None
        if settings is not None:
            if settings.examples not in done.errors:
                architecture = self._recipe.trusted_architecture
                evaluation = stages.evaluate(checkpoint, settings, self._observer, architecture=architecture)
                rounded = replace(evaluation.rounded(), count=None)
                done = done.model_copy(update={"errors": {**done.errors, settings.examples: rounded}})
                self._ledger.record(stage, done)
            measured = done.errors[settings.examples]
            settings.check_bounded(measured.metrics)
        kept_percent = checkpoint.kept_percent() if done.kept_percent is None else done.kept_percent
        return StageResult(stage, done.file, done.bytes, done.sparsity, kept_percent, measured, done.seconds)
