"""Tests of temporary files: they are locked, and removed after the process that made them was killed."""

import errno
import subprocess
import sys
import tempfile

import pytest

from dcomp.errors import OutputError
from dcomp.system.files import replacing
from dcomp.system.temporary import Scratch, part

KILLED = """
import os, sys
from pathlib import Path
from dcomp.system.temporary import part
with part(Path(sys.argv[1]), is_folder=sys.argv[2] == "folder") as temporary:
    if temporary.is_dir():
        (temporary / "inside").write_text("half")
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_files_of_a_killed_process_are_removed(tmp_path, kind):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), kind])
    assert len(list(tmp_path.glob(".dcomp-*.part"))) == 1
    with replacing(tmp_path / "out"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_files_of_a_running_process_stay(tmp_path):
    with replacing(tmp_path / "one") as one:
        one.write(b"first")
        with replacing(tmp_path / "other"), part(tmp_path, is_folder=True) as folder:
            (folder / "x").write_text("x")
            with part(tmp_path):
                assert folder.is_dir()
    assert (tmp_path / "one").read_bytes() == b"first"
    assert {path.name for path in tmp_path.iterdir()} == {"one", "other"}


def test_files_that_cannot_be_removed_are_skipped(tmp_path):
    (tmp_path / ".dcomp-link.part").symlink_to(tmp_path / "precious")
    (tmp_path / "precious").write_text("mine")
    with replacing(tmp_path / "out"):
        pass
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_full_temporary_folder_is_named(monkeypatch, tmp_path):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", "/some/tmp")
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    message = "cannot write temporary files in /some/tmp: No space left on device; TMPDIR names another folder"
    with pytest.raises(OutputError, match=message), replacing(tmp_path / "out"), Scratch(1) as scratch:
        scratch.write(b"more than one")
