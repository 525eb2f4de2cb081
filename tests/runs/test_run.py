"""Tests of a run in a folder, without the command line; the others stand in tests/cli/test_run.py."""

import json

import pytest

from dcomp.container import verification
from dcomp.container.reader import Container
from dcomp.errors import DcompError, OutputError
from dcomp.progress.observer import Observer
from dcomp.runs.ledger import Ledger
from dcomp.runs.run import Run
from dcomp.settings.recipe import Recipe

STAGES = ["prune", "quantize", "encode"]


@pytest.fixture
def recipe(dense_file):
    """A recipe that trains nothing."""
    sections = {"prune": {"sparsity": 0.9}, "quantize": {"fc_bits": 4}}
    return Recipe.model_validate({"name": "r", "checkpoint": dense_file, **sections})


class Notes(Observer):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_the_container_is_decoded_once(recipe, tmp_path, monkeypatch):
    names, decode = [], Container.decode

    def counted(self, some=None, **options):
        names.extend(self.names if some is None else some)
        return decode(self, some, **options)

    monkeypatch.setattr(Container, "decode", counted)
    Run(recipe, tmp_path / "out").run()
    assert len(names) == len(set(names)) == 6


def test_a_container_that_decodes_to_other_bits_is_an_error(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(verification, "identical", lambda one, other: False)
    with pytest.raises(DcompError, match="container differs from the encoded checkpoint; please report this"):
        Run(recipe, tmp_path / "out").run()
    assert "encode" not in json.loads((tmp_path / "out" / "stages.json").read_text())


def test_a_second_run_uses_every_file_again(recipe, tmp_path):
    first = Run(recipe, tmp_path / "out").run()
    ledger, notes = (tmp_path / "out" / "stages.json").read_bytes(), Notes()
    assert Run(recipe, tmp_path / "out", notes).run() == first
    assert (tmp_path / "out" / "stages.json").read_bytes() == ledger
    files = ["prune.safetensors", "quantize.safetensors", "model.dcz"]
    paths = [tmp_path / "out" / file for file in files]
    assert notes.notes == [f"{s}: done before, {p} is used again" for s, p in zip(STAGES, paths, strict=True)]


def test_prepare_ends_after_a_stage(recipe, tmp_path):
    Run(recipe, tmp_path / "out").prepare("prune")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"prune.safetensors", "stages.json"}


def test_a_run_adopts_the_stages_of_another_run(recipe, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    Run(recipe, one).run()
    summary = Run(recipe, other, other_runs=[one]).run()
    assert (other / "model.dcz").samefile(one / "model.dcz")
    assert json.loads((other / "stages.json").read_text()) == json.loads((one / "stages.json").read_text())
    assert [result.stage for result in summary.results] == STAGES


@pytest.mark.parametrize("lost", ["prune.safetensors", "stages.json"])
def test_a_stage_runs_where_its_file_goes_away_while_it_is_adopted(recipe, tmp_path, monkeypatch, lost):
    one, other = tmp_path / "one", tmp_path / "other"
    Run(recipe, one).run()
    adopt = Ledger.adopt

    def adopt_too_late(ledger, stage, source):
        (one / lost).unlink(missing_ok=True)
        adopt(ledger, stage, source)

    monkeypatch.setattr(Ledger, "adopt", adopt_too_late)
    summary = Run(recipe, other, other_runs=[one]).run()
    assert [result.stage for result in summary.results] == STAGES
    assert (other / "model.dcz").read_bytes() == (one / "model.dcz").read_bytes()


def test_the_state_of_a_stopped_stage_stays_where_no_file_is_adopted(recipe, tmp_path, monkeypatch):
    one, other = tmp_path / "one", tmp_path / "other"
    Run(recipe, one).run()
    other.mkdir()
    state = other / "prune.safetensors.0123456789ab.state"
    state.write_bytes(b"a state")
    states = []

    def fail(ledger, stage, source):
        states.append(state.exists())
        raise OutputError("the disk is full")

    monkeypatch.setattr(Ledger, "adopt", fail)
    with pytest.raises(OutputError, match="the disk is full"):
        Run(recipe, other, other_runs=[one], force=True).run()
    assert states == [True]
    assert state.exists()


def test_a_new_folder_of_a_failed_run_is_removed(recipe, tmp_path):
    wrong = recipe.model_copy(update={"prune": (recipe.prune[0].model_copy(update={"only": ("conv",)}),)})
    with pytest.raises(DcompError, match="no layer matches 'conv'"):
        Run(wrong, tmp_path / "new" / "out").run()
    assert not (tmp_path / "new").exists()
