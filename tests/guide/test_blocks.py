"""The marked blocks of README and guide are run, and print what the pages show."""

import importlib.util
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("guide_pages", Path(__file__).parent / "pages.py")
assert _spec is not None
pages = importlib.util.module_from_spec(_spec)
sys.modules["guide_pages"] = pages
_spec.loader.exec_module(pages)

INTERPRETERS = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
FIGURE = re.compile(r"\d[\d,]*(?:\.\d+)?")
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


def check_output(shown, printed, tolerance=0.0):
    """Raise AssertionError unless what a page shows was printed, in this order, however lines are broken.

    Figures may lie apart by `tolerance`, as a part of those shown.
    """
    left = printed.split()
    for part in re.split(r"^\.\.\.$", shown, flags=re.MULTILINE):
        words = part.split()
        ends = (
            end for end in range(len(words), len(left) + 1) if agree(words, left[end - len(words) : end], tolerance)
        )
        end = next(ends, None)
        assert end is not None, f"{part}\nis not printed there:\n{printed}"
        left = left[end:]


def agree(shown, printed, tolerance):
    """Tell whether words are the same, but for figures that lie not too far apart."""
    return all(one == other or is_near(one, other, tolerance) for one, other in zip(shown, printed, strict=True))


def is_near(shown, printed, tolerance):
    """Tell whether two words are figures, alike in what stands around them, and not too far apart."""
    pairs = [(FIGURE.sub("0", word), FIGURE.findall(word)) for word in (shown, printed)]
    (around, figures), (other_around, other_figures) = pairs
    if not tolerance or around != other_around:
        return False
    numbers = [[float(figure.replace(",", "")) for figure in listed] for listed in (figures, other_figures)]
    return all(abs(one - other) <= tolerance * abs(one) for one, other in zip(*numbers, strict=True))


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
            check_output(block.text, printed, block.tolerance)
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


@pytest.mark.parametrize(
    ("shown", "is_noticed"), [("error 2.10 %, 1,000 bytes", False), ("error 2.9 %, 990 bytes", True)]
)
def test_figures_of_training_may_lie_a_little_apart(shown, is_noticed):
    with pytest.raises(AssertionError) if is_noticed else nullcontext():
        check_output(shown, "dense:\nerror 2.00 %, 1,100 bytes", tolerance=0.2)


def without_spaces(text):
    """Return code without spaces and line breaks: the page breaks lines at 80 columns, the source at 120."""
    return "".join(text.split())
