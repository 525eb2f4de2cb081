"""Small files that ask for much memory or time: each through every reader, in a process of its own."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dcomp
from dcomp.container.reader import Container
from dcomp.container.verification import verify
from dcomp.errors import ContainerError

SCRIPT = Path(__file__).with_name("hostile.py")
LIMIT = 64 << 20
"""The limit that the script gives to its readers."""

MARGIN = 64 << 20
"""Memory that may be taken beyond it, whatever the file is: tables, buffers, lines to print."""

SECONDS = 10
"""Of a processor, for a file."""


def run(command, folder):
    done = subprocess.run([sys.executable, SCRIPT, command, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    run("make", folder)
    return folder


@pytest.mark.parametrize("reader", ["decode", "load", "report", "inspect", "verify", "get_tensor", "get_csr"])
def test_hostile_files_are_bounded_in_memory_and_time(hostile, reader):
    rows = run(reader, hostile)
    assert {name for name, *_ in rows} == {path.name for path in hostile.iterdir()}
    assert [row for row in rows if row[1] > LIMIT + MARGIN] == []
    assert [row for row in rows if row[2] > SECONDS] == []


def test_verification_names_each_damaged_tensor(hostile):
    container = Container.open(hostile / "a hundred chains of as few bits as may be", max_memory=LIMIT)
    started = time.process_time()
    with pytest.raises(ContainerError) as caught:
        verify(container)
    assert time.process_time() - started < 2  # one after the other they take ten seconds
    assert all(f"tensor {name!r}: a block of a stream" in str(caught.value) for name in container.names)


@pytest.mark.parametrize("name", ["large tables of small cells", "classes of fewer rows", "a wide index"])
def test_odd_files_that_break_no_rule_are_read(hostile, name):
    for array in dcomp.load_file(hostile / name, max_memory=LIMIT).values():
        assert set(array.reshape(-1).tolist()) in ({0}, {ord("a")})
