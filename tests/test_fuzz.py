"""A slice of what `python tests/fuzz.py` does at length."""

import importlib.util
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from dcomp import sources
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.container.reader import Container

_spec = importlib.util.spec_from_file_location("fuzz", Path(__file__).parent / "fuzz.py")
assert _spec and _spec.loader
fuzz = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fuzz)

SLICES = {  # how many cases, and how often some outcomes come at least: what is behind the first checks is reached
    "dcz": (500, {"ContainerError": 200, "ChecksumError": 50, "decoded": 30}),
    "pt": (300, {"refused by both": 100, "stricter": 10, "read": 30}),
    "safetensors": (300, {"refused by both": 100, "read": 30}),
    "npz": (300, {"refused by both": 80, "stricter": 5, "read": 30}),
}


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("kind", SLICES)
def test_damaged_files_are_read_as_others_read_them_or_are_one_error(kind, part):
    cases, least = SLICES[kind]
    outcomes = fuzz.run(kind, range(cases * part, cases * part + cases), seed=1, findings=None)
    assert sum(outcomes.values()) == cases
    assert {word: outcomes[word] >= count for word, count in least.items()} == dict.fromkeys(least, True)


BROKEN = {
    "a container that decodes to something else": (
        "dcz",
        Container,
        "decode",
        lambda self, *names, **options: _zeros(self),
        "FindingError",
    ),
    "a defect": ("dcz", Container, "decode", lambda self, *names, **options: 1 / 0, "ZeroDivisionError"),
    "no end": ("dcz", Container, "decode", lambda self, *names, **options: _for_ever(), "TookTooLongError"),
    "much memory": ("dcz", Container, "decode", lambda self, *names, **options: _much_memory(), "FindingError"),
    "other tensors": (
        "pt",
        fuzz.torch_files,
        "load_checkpoint",
        lambda *path, **options: Checkpoint({"w": np.ones(3)}),
        "FindingError",
    ),
    "another file": (
        "safetensors",
        fuzz.safetensors_files,
        "load_checkpoint",
        lambda path: sources.load_checkpoint(path).replaced({}, {"more": "metadata"}),
        "FindingError",
    ),
}


def _zeros(container):
    return {name: np.zeros(3) for name in container.names}


def _for_ever():
    while True:
        pass


def _much_memory():
    return defaultdict(lambda: np.ones((fuzz.MARGIN + 1) * fuzz.MAX_MEMORY, np.uint8))


@pytest.mark.parametrize(("kind", "room", "name", "replacement", "error"), BROKEN.values(), ids=BROKEN)
def test_the_fuzzer_notices_what_it_is_for(monkeypatch, kind, room, name, replacement, error):
    monkeypatch.setattr(room, name, replacement)
    monkeypatch.setattr(fuzz, "SECONDS_A_CASE", 1)
    with pytest.raises(BaseException) as caught:
        fuzz.run(kind, range(64), seed=0, findings=None)
    assert type(caught.value).__name__ == error


def test_a_process_that_dies_is_a_finding_and_the_others_go_on(monkeypatch, tmp_path):
    monkeypatch.setitem(fuzz.KINDS, "dcz", fuzz.Kind(".dcz", fuzz.KINDS["dcz"].make, _dies_at_times))
    deaths = sum(_dies(fuzz.case(fuzz.KINDS["dcz"], number, 0)) for number in range(20))
    assert 0 < deaths < 20
    assert fuzz.run_in_processes("dcz", range(20), 0, tmp_path, processes=2)["findings"] == deaths


def _dies_at_times(case, path):
    if _dies(case):
        os._exit(9)
    return "fine"


def _dies(case):
    return len(case.data) % 7 == 3


@pytest.mark.parametrize("name", fuzz.KINDS)
def test_a_case_is_the_same_whenever_it_is_made(name):
    kind = fuzz.KINDS[name]
    assert fuzz.case(kind, 12, 3) == fuzz.case(kind, 12, 3)
    assert fuzz.case(kind, 12, 3) != fuzz.case(kind, 13, 3)
