"""What tests of the pages share: where they are, and the blocks of code that are marked to be run.

A mark is a Markdown comment in the line above a block; no reader sees it.

    <!-- setup: COMMAND -->   run a command that readers do not see, for a file that they have; above no block
    <!-- run -->              run the block by bash, or by Python; it must exit 0
    <!-- run: exit 3 -->      it must exit 3
    <!-- save: mynet.py -->   write the block to a file
    <!-- source: PATH -->     a file of the repository contains the block
    <!-- output -->           the last block printed these lines; `...` stands for any others
    <!-- output: within 50 % -->  it did, but for figures that training gives, which may lie so far apart
"""

import re
from dataclasses import dataclass
from pathlib import Path

import dcomp

ROOT = Path(__file__).parents[2]
FOLDER = Path(dcomp.__file__).parent / "guide"
GUIDE = sorted(FOLDER.glob("*.md"))
README = ROOT / "README.md"

MARKED = re.compile(
    r"^<!-- (?:setup: (?P<setup>[^\n]+)|(?P<mark>run|save|output|source)(?:: (?P<argument>[^\n]+))?) -->\n"
    r"(?(setup)|```(?P<language>\w+)\n(?P<text>.*?)^```$)",
    re.MULTILINE | re.DOTALL,
)
MARK = re.compile(r"^<!--", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of code, and what its mark says is to be done with it."""

    mark: str
    argument: str | None
    language: str
    text: str

    @property
    def exit_code(self) -> int:
        """The exit code that it must have."""
        return int(self.argument.removeprefix("exit ")) if self.argument else 0

    @property
    def tolerance(self) -> float:
        """How far figures that are printed may lie from those shown, as a part of these."""
        return float(self.argument.removeprefix("within ").removesuffix(" %")) / 100 if self.argument else 0.0


def blocks_of(page: Path) -> list[Block]:
    """Return the marked blocks of a page, in order.

    Raises:
        AssertionError: a mark is none of these, or stands above no block.
    """
    text = page.read_text(encoding="utf-8")
    blocks = [_block(match) for match in MARKED.finditer(text)]
    assert len(blocks) == len(MARK.findall(text)), f"{page.name} has a mark above no block"
    return blocks


def _block(match: re.Match[str]) -> Block:
    if match["setup"]:
        return Block("run", None, "bash", match["setup"])
    return Block(match["mark"], match["argument"], match["language"], match["text"])
