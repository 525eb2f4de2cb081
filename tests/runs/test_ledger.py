"""Tests of stages.json: what is read, refused, looked up, adopted and recorded."""

import hashlib
import json

import pytest

from dcomp.errors import OutputError
from dcomp.runs import ledger
from dcomp.runs.ledger import DoneStage, Ledger, fingerprint_after
from dcomp.settings import PruneSettings

FILE = "train.safetensors"
CONTENT = b"a checkpoint"
FINGERPRINT = "0123456789abcdef" * 4
OTHER = "f" * 64
ERRORS = {"top1_error": 1, "top5_error": 0.5, "loss": 0.1}
STAGE = {
    "fingerprint": FINGERPRINT,
    "digest": hashlib.sha256(CONTENT).hexdigest(),
    "file": FILE,
    "bytes": len(CONTENT),
    "sparsity": 0,
    "seconds": 1.5,
    "errors": {"mnist": ERRORS},
}
DONE = DoneStage.model_validate(STAGE)


@pytest.fixture
def folder(tmp_path):
    """A folder in which the stage train is done."""
    path = tmp_path / "run"
    path.mkdir()
    (path / FILE).write_bytes(CONTENT)
    (path / ledger.NAME).write_text(json.dumps({"train": STAGE}))
    return path


def test_a_ledger_is_read_as_it_was_written(folder):
    text = (folder / ledger.NAME).read_text()
    Ledger.read(folder).write()
    written = (folder / ledger.NAME).read_text()
    assert json.loads(written) == {"train": {**json.loads(text)["train"], "kept_percent": None}}
    assert Ledger.read(folder)["train"].errors["mnist"].metrics["top5_error"] == 0.5


def test_without_a_ledger_no_stage_is_done(tmp_path):
    assert Ledger.read(tmp_path).lookup("train", FILE, FINGERPRINT) is None


def test_lookup_returns_the_record_of_an_intact_file(folder):
    assert Ledger.read(folder).lookup("train", FILE, FINGERPRINT) == DONE


LOST = {
    "another stage": ("prune", FILE, FINGERPRINT, CONTENT),
    "another file": ("train", "prune.safetensors", FINGERPRINT, CONTENT),
    "another fingerprint": ("train", FILE, OTHER, CONTENT),
    "another size": ("train", FILE, FINGERPRINT, CONTENT + b"."),
    "another byte": ("train", FILE, FINGERPRINT, CONTENT[:-1] + b"!"),
    "no file": ("train", FILE, FINGERPRINT, None),
}


@pytest.mark.parametrize("case", LOST)
def test_lookup_returns_none_for(case, folder):
    stage, file, fingerprint, content = LOST[case]
    (folder / FILE).unlink() if content is None else (folder / FILE).write_bytes(content)
    assert Ledger.read(folder).lookup(stage, file, fingerprint) is None


def test_lookup_writes_nothing(folder):
    (folder / ledger.NAME).unlink()
    Ledger(folder, {"train": DONE}).lookup("train", FILE, FINGERPRINT)
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_record_writes_the_stage(tmp_path):
    Ledger(tmp_path).record("train", DONE)
    assert Ledger.read(tmp_path)["train"] == DONE


def test_adopt_links_the_file_and_records_the_stage(folder, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    Ledger(here).adopt("train", Ledger.read(folder))
    assert (here / FILE).samefile(folder / FILE)
    assert Ledger.read(here).lookup("train", FILE, FINGERPRINT) == DONE


def test_a_fingerprint_is_a_digest_of_its_parts(tmp_path):
    teacher = tmp_path / "teacher.safetensors"
    teacher.write_bytes(CONTENT)
    settings = PruneSettings(sparsity=0.5)
    arguments = {**settings.arguments(), "distill": STAGE["digest"]}
    text = json.dumps([OTHER, "prune", arguments, 2], sort_keys=True)
    assert (
        fingerprint_after(OTHER, "prune", settings, {"distill": teacher}, 2)
        == hashlib.sha256(text.encode()).hexdigest()
    )


def test_every_part_changes_a_fingerprint(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    half, more = PruneSettings(sparsity=0.5), PruneSettings(sparsity=0.6)
    parts = [
        ("", "prune", half, {}),
        (OTHER, "prune", half, {}),
        ("", "prune.2", half, {}),
        ("", "prune", more, {}),
        ("", "prune", half, {"rewind": tmp_path / "a"}),
        ("", "prune", half, {}, 2),
    ]
    assert len({fingerprint_after(*arguments) for arguments in parts}) == len(parts)


DAMAGED = {
    "no JSON": "{",
    "a list": "[]",
    "a stage that is no object": {"train": 5},
    "bytes that are no number": {"train": {**STAGE, "bytes": "123"}},
    "bytes that are no whole number": {"train": {**STAGE, "bytes": 1.5}},
    "negative bytes": {"train": {**STAGE, "bytes": -1}},
    "more bytes than a file has": {"train": {**STAGE, "bytes": 1 << 70}},
    "seconds that are null": {"train": {**STAGE, "seconds": None}},
    "negative seconds": {"train": {**STAGE, "seconds": -1.0}},
    "a sparsity of 7": {"train": {**STAGE, "sparsity": 7}},
    "a negative sparsity": {"train": {**STAGE, "sparsity": -0.5}},
    "more kept than there is": {"train": {**STAGE, "kept_percent": 101}},
    "an error above 100 %": {"train": {**STAGE, "errors": {"mnist": {**ERRORS, "top1_error": 101}}}},
    "a negative loss": {"train": {**STAGE, "errors": {"mnist": {**ERRORS, "loss": -1}}}},
    "a sparsity that is not finite": json.dumps({"train": {**STAGE, "sparsity": 1}}).replace(
        '"sparsity": 1', '"sparsity": NaN'
    ),
    "errors that are a list": {"train": {**STAGE, "errors": []}},
    "errors of no data set": {"train": {**STAGE, "errors": {"mnist": 3}}},
    "an error that is missing": {"train": {**STAGE, "errors": {"mnist": {"top1_error": 1}}}},
    "an error that is a text": {"train": {**STAGE, "errors": {"mnist": {**ERRORS, "top1_error": "1"}}}},
    "a fingerprint that is none": {"train": {**STAGE, "fingerprint": "x"}},
    "a file that is a number": {"train": {**STAGE, "file": 7}},
    "a key that is missing": {"train": {key: value for key, value in STAGE.items() if key != "digest"}},
    "a key too many": {"train": {**STAGE, "more": 1}},
    "deeply nested JSON": "[" * 100_000,
    "a number of 5,000 digits": json.dumps({"train": STAGE}).replace('"bytes": 12', f'"bytes": {"1" * 5000}'),
    "a lone surrogate": '{"\\ud800": 1}',
    "bytes that are no text": b"\xff\xfe",
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_ledger_is_refused(tmp_path, case):
    damaged = DAMAGED[case]
    text = json.dumps(damaged) if isinstance(damaged, dict) else damaged
    (tmp_path / ledger.NAME).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(OutputError, match=r"stages\.json is damaged; --force runs every stage again"):
        Ledger.read(tmp_path)
