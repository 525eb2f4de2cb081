"""The marked blocks of README and guide are run, and print what the pages show."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("guide_pages", Path(__file__).parent / "pages.py")
assert _spec is not None
pages = importlib.util.module_from_spec(_spec)
sys.modules["guide_pages"] = pages
_spec.loader.exec_module(pages)

INTERPRETERS = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
PAGES = [page for page in (pages.README, *pages.GUIDE) if pages.blocks_of(page)]


@pytest.fixture
def environment(tmp_path):
    """The variables under which blocks run: the `dcomp` of this environment, one core, 80 columns."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, words in {"dcomp": "-m dcomp ", "python": ""}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words}"$@"\n')
        (programs / name).chmod(0o755)
    path = [str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]
    python_path = [str(pages.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PATH": os.pathsep.join(path),
        "PYTHONPATH": os.pathsep.join(python_path),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "80",
    }


def check_output(shown, printed):
    """Raise AssertionError unless what a page shows was printed, in this order, however lines are broken."""
    left = " ".join(printed.split())
    for part in re.split(r"^\.\.\.$", shown, flags=re.MULTILINE):
        words = " ".join(part.split())
        assert words in left, f"{part}\nis not printed there:\n{printed}"
        left = left.partition(words)[2] if words else left


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_marked_blocks_run(page, tmp_path, environment):
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "sample_configs").symlink_to(pages.ROOT / "sample_configs")
    printed = ""
    for block in pages.blocks_of(page):
        if block.mark == "save":
            (folder / block.argument).write_text(block.text)
        elif block.mark == "source":
            assert without_spaces(block.text) in without_spaces((pages.ROOT / block.argument).read_text())
        elif block.mark == "output":
            check_output(block.text, printed)
        else:
            done = subprocess.run(
                [*INTERPRETERS[block.language], block.text],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            printed = done.stdout
            assert done.returncode == block.exit_code, f"{block.text}\n{printed}"


@pytest.mark.parametrize("shown", ["a\nc", "c\n...\na", "d", "...\nd"])
def test_what_is_not_printed_is_noticed(shown):
    with pytest.raises(AssertionError):
        check_output(shown, "a\nb\nc\n")


@pytest.mark.parametrize("shown", ["a\nb", "b\nc", "a\n...\nc", "...\nb\n..."])
def test_what_is_printed_is_recognized(shown):
    check_output(shown, "a\nb\nc\n")


def without_spaces(text):
    """Return code without spaces and line breaks: the page breaks lines at 80 columns, the source at 120."""
    return "".join(text.split())
