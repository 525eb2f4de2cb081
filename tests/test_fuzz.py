"""A slice of what `python tests/fuzz.py` does at length."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from dcomp.container.reader import Container

_spec = importlib.util.spec_from_file_location("fuzz", Path(__file__).parent / "fuzz.py")
assert _spec and _spec.loader
fuzz = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fuzz)


@pytest.mark.parametrize("part", range(4))
def test_damaged_containers_raise_nothing_but_dcomp_errors(part):
    outcomes = fuzz.run(iter(range(500 * part, 500 * part + 500)), seed=0, findings=None)
    assert sum(outcomes.values()) == 500
    assert outcomes["ContainerError"] > 100  # the parsers behind the checksums are reached
    assert outcomes["ChecksumError"] > 50


def test_the_fuzzer_notices_what_it_is_for(monkeypatch):
    def broken(self, max_memory):
        np.zeros(4 * fuzz.MARGIN * max_memory, np.uint8)
        return {}

    monkeypatch.setattr(Container, "decode", broken)
    with pytest.raises(fuzz.FindingError, match=r"bytes of memory|decoded as something else"):
        fuzz.run(iter(range(64)), seed=0, findings=None, watch_memory=1)
    monkeypatch.setattr(Container, "decode", lambda self, max_memory: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fuzz.run(iter(range(64)), seed=0, findings=None)


def test_a_case_is_the_same_whenever_it_is_made():
    bases = fuzz.containers()
    assert fuzz.case(bases, 12, 3) == fuzz.case(bases, 12, 3)
    assert fuzz.case(bases, 12, 3) != fuzz.case(bases, 13, 3)
