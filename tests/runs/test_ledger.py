import json

import pytest

from dcomp.runs import ledger
from dcomp.errors import OutputError

ERRORS = ("top1_error", "top5_error", "loss")
DIGEST = "0123456789abcdef" * 4
ENTRY = {
    "fingerprint": DIGEST,
    "digest": DIGEST,
    "file": "train.safetensors",
    "bytes": 123,
    "sparsity": 0,
    "seconds": 1.5,
    "errors": {"mnist": {"top1_error": 1, "top5_error": 0.5, "loss": 0.1}},
}


def test_what_is_written_is_read_again(tmp_path):
    (tmp_path / "stages.json").write_text(json.dumps({"train": ENTRY}))
    entries = ledger.read(tmp_path)
    assert entries["train"].errors["mnist"].top5_error == 0.5
    (tmp_path / "stages.json").write_text(ledger.as_json(entries))
    assert ledger.read(tmp_path) == entries


def test_a_folder_without_a_ledger_has_no_stages(tmp_path):
    assert ledger.read(tmp_path) == {}


DAMAGED = {
    "no JSON": "{",
    "a list": "[]",
    "a stage that is no object": {"train": 5},
    "bytes that are no number": {"train": {**ENTRY, "bytes": "123"}},
    "bytes that are no whole number": {"train": {**ENTRY, "bytes": 1.5}},
    "negative bytes": {"train": {**ENTRY, "bytes": -1}},
    "seconds that are null": {"train": {**ENTRY, "seconds": None}},
    "a sparsity that is not finite": json.dumps({"train": {**ENTRY, "sparsity": 1}}).replace(
        '"sparsity": 1', '"sparsity": NaN'
    ),
    "errors that are a list": {"train": {**ENTRY, "errors": []}},
    "errors of no data set": {"train": {**ENTRY, "errors": {"mnist": 3}}},
    "an error that is missing": {"train": {**ENTRY, "errors": {"mnist": {"top1_error": 1}}}},
    "an error that is a text": {
        "train": {**ENTRY, "errors": {"mnist": {"top1_error": "1", "top5_error": 1, "loss": 1}}}
    },
    "a fingerprint that is none": {"train": {**ENTRY, "fingerprint": "x"}},
    "a file that is a number": {"train": {**ENTRY, "file": 7}},
    "a key that is missing": {"train": {key: value for key, value in ENTRY.items() if key != "digest"}},
    "a key too many": {"train": {**ENTRY, "more": 1}},
    "deeply nested JSON": "[" * 100_000,
    "a number of 5,000 digits": json.dumps({"train": ENTRY}).replace("123", "1" * 5000),
    "a lone surrogate": '{"\\ud800": 1}',
    "bytes that are no text": b"\xff\xfe",
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_ledger_is_one_error_that_says_what_to_do(tmp_path, case):
    damaged = DAMAGED[case]
    text = json.dumps(damaged) if isinstance(damaged, dict) else damaged
    (tmp_path / "stages.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(OutputError, match=r"stages\.json is damaged; --force runs every stage again"):
        ledger.read(tmp_path)
