"""The pages are complete, short in line, and agree with the house."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest

from dcomp.cli.app import command
from dcomp.cli.guide import PAGES

GUIDE_TESTS = Path(__file__).parent


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


pages = load("guide_pages", GUIDE_TESTS / "pages.py")
write_commands = load("write_commands", GUIDE_TESTS / "write_commands.py")
architecture = load("test_architecture", GUIDE_TESTS.parent / "test_architecture.py")

FORMAT = pages.FOLDER.parent / "container" / "FORMAT.md"
TEXTS = [pages.README, pages.ROOT / "CHANGELOG.md", FORMAT, *pages.GUIDE]
LINK = re.compile(r"]\(([^)#]+)[^)]*\)")
CODE = re.compile(r"^```(?:bash|text|yaml|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MAP = re.compile(r"^```text\n(dcomp/\n.*?)^```$", re.MULTILINE | re.DOTALL)
BASH = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def command_lines():
    """Return the words after `dcomp` of each command of the pages, whether or not it is run."""
    for page in (pages.README, *pages.GUIDE):
        for block in BASH.findall(page.read_text()):
            for line in re.split(r"\n|\|", block.replace("\\\n", "")):
                words = shlex.split(line, comments=True)
                if words[:1] == ["dcomp"] and "$(" not in line:
                    yield words[1 : words.index(">") if ">" in words else None]


COMMAND_LINES = sorted(command_lines())


def name_of(path):
    return path.name


def test_each_page_is_listed_once():
    assert sorted(PAGES) == [page.stem for page in pages.GUIDE]


@pytest.mark.parametrize("page", pages.GUIDE, ids=name_of)
def test_a_page_begins_with_its_title(page):
    assert page.read_text().startswith("# ")


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_lines_have_at_most_120_characters(page):
    long = [number for number, line in enumerate(page.read_text().splitlines(), 1) if len(line) > 120]
    assert long == []


@pytest.mark.parametrize("page", pages.GUIDE, ids=name_of)
def test_blocks_of_code_fit_80_columns(page):
    code = "".join(CODE.findall(page.read_text()))
    assert [line for line in code.splitlines() if len(line) > 80] == []


def test_the_readme_has_at_most_8_kilobytes():
    assert pages.README.stat().st_size <= 8000


@pytest.mark.parametrize("page", [pages.README, *pages.GUIDE], ids=name_of)
def test_links_lead_to_files(page):
    targets = [target for target in LINK.findall(page.read_text()) if not target.startswith("http")]
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", [pages.README, *pages.GUIDE], ids=name_of)
def test_pages_name_no_folder_outside_the_repository(page):
    assert "../shared" not in page.read_text()


def test_the_readme_names_every_page():
    assert all(f"dcomp/guide/{page}.md" in pages.README.read_text() for page in PAGES)


@pytest.mark.parametrize("line", COMMAND_LINES, ids=" ".join)
def test_commands_in_the_pages_exist_with_their_options(line):
    name, *arguments = line
    with command().commands[name].make_context(name, arguments):  # parsed, not run
        pass


def test_the_reference_of_commands_is_their_help():
    text = write_commands.PAGE.read_text(encoding="utf-8")
    assert text == write_commands.page(), "python tests/guide/write_commands.py writes it anew"


def test_the_map_has_the_rooms_in_the_order_of_the_test():
    (drawing,) = MAP.findall((pages.FOLDER / "contributing.md").read_text())
    mapped = [line.split()[0].removesuffix("/").removesuffix(".py") for line in drawing.splitlines()[1:]]
    floor_of = architecture.FLOOR_OF
    rooms = [room for room in mapped if room in floor_of]
    assert sorted(rooms) == sorted(floor_of)
    assert [floor_of[room] for room in rooms] == sorted(floor_of.values(), reverse=True)


def test_the_map_has_every_room_of_the_package():
    (drawing,) = MAP.findall((pages.FOLDER / "contributing.md").read_text())
    mapped = {line.split()[0].removesuffix("/") for line in drawing.splitlines()[1:]}
    package = pages.FOLDER.parent
    rooms = {path.name for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"}
    modules = {path.name for path in package.glob("[a-z]*.py")}
    assert mapped == rooms | modules
