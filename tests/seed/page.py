"""The seed page, read from where it lies: its fenced blocks and its included files, in their order.

The page is the specification and not part of this project. It is looked for beside the project, in
`../shared/seed/app-usage-patterns.md`, or where TARMAC_SEED_PAGE says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
INCLUDED = Path(__file__).with_name("included")
"""Programs of our own that use the same API and the same names as the files which the page includes."""

_DEFAULT = ROOT.parent / "shared" / "seed" / "app-usage-patterns.md"
_FENCE = re.compile(r"```(\w*)\s*$")
_INCLUDE = re.compile(r'\{\{<\s*code\s+file="(?P<file>[^"]+)"')


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block, as it stands there."""

    line: int
    """The line of its opening fence; what the page's blocks are called by."""
    language: str
    text: str

    @property
    def first_word(self) -> str:
        return self.text.split(maxsplit=1)[0]


@dataclass(frozen=True, slots=True)
class Include:
    """A place where the page shows a file of another repository."""

    line: int
    file: str

    @property
    def name(self) -> str:
        return Path(self.file).name

    @property
    def text(self) -> str:
        """Our program that stands in its place."""
        return (INCLUDED / self.name).read_text()


@dataclass(frozen=True, slots=True)
class Page:
    path: Path
    parts: tuple[Block | Include, ...]

    @property
    def blocks(self) -> tuple[Block, ...]:
        return tuple(part for part in self.parts if isinstance(part, Block))

    @property
    def includes(self) -> tuple[Include, ...]:
        return tuple(part for part in self.parts if isinstance(part, Include))

    def block(self, line: int) -> str:
        """The text of the block whose fence is on `line`."""
        found = {block.line: block.text for block in self.blocks}
        assert line in found, f"{self.path} has no block at line {line}; its blocks are at {sorted(found)}"
        return found[line]

    def as_module(self) -> str:
        """The page from top to bottom as one program: `random`, which it uses and never imports, and no client run."""
        python = (part.text for part in self.parts if isinstance(part, Include) or part.language == "python")
        text = "\n\n".join(("import random", *python))
        return text.replace("asyncio.run(client())\n", "")


def page_path() -> Path:
    """Where the page has to be."""
    return Path(os.environ.get("TARMAC_SEED_PAGE") or _DEFAULT)


def read(path: Path) -> Page:
    return Page(path, tuple(_parts(path.read_text().splitlines())))


def _parts(lines: list[str]) -> Iterator[Block | Include]:
    fence: tuple[int, str] | None = None
    for number, line in enumerate(lines, start=1):
        found = _FENCE.match(line)
        if fence is not None and found:
            yield Block(*fence, text="\n".join(lines[fence[0] : number - 1]) + "\n")
            fence = None
        elif found:
            fence = (number, found[1])
        elif fence is None and (included := _INCLUDE.search(line)):
            yield Include(number, included["file"])
