"""Faults that are put into the durable core on purpose (planted.diff): the simulation has to find every one of them.

Each is a name and a change of some lines, like a patch without the file and the place: the lines stand in one place of
the code. Add one for every real fault that is found, so that it would be found again. The seed in brackets is one that
found it, and is tried first; it need not find it any more, then others are tried. A fault is tried in a process of its
own, whose import of the module is given the changed text; no file is changed.
"""

from __future__ import annotations

import importlib.machinery
from pathlib import Path
from types import CodeType
from typing import NamedTuple

SOURCES = Path(__file__).parents[2] / "src"


class Fault(NamedTuple):
    name: str
    right: str
    """Whole lines, as they are in the code."""
    wrong: str
    """What stands there instead."""
    seed: int
    """The one to try first."""


class DoesNotFit(Exception):
    """Raised when a fault's lines are not in the code, or in two places: the list has to follow the code."""


def faults() -> list[Fault]:
    found = []
    for block in Path(__file__).with_suffix(".diff").read_text().split("\n\n# "):
        header, *lines = block.removeprefix("# ").splitlines()
        name, _, seed = header.removesuffix("]").partition(" [")
        right = "".join(f"{line[1:]}\n" for line in lines if line[0] in "- ")
        wrong = "".join(f"{line[1:]}\n" for line in lines if line[0] in "+ ")
        found.append(Fault(name, right, wrong, int(seed or 0)))
    return found


def find(fault: Fault) -> Path:
    """The file that it changes. Raises DoesNotFit."""
    files = [*(SOURCES / "tarmac").rglob("*.py"), SOURCES / "flyte/phases.py"]
    found = [path for path in files for _ in range(path.read_text().count(f"\n{fault.right}"))]
    if len(found) != 1:
        raise DoesNotFit(f"{fault.name!r} should fit one place of the code, and fits {found}:\n{fault.right}")
    return found[0]


def plant(fault: Fault) -> None:
    """From now on the module with the fault is imported so. To be called before it is."""
    path, original = find(fault), importlib.machinery.SourceFileLoader.get_code

    def get_code(loader: importlib.machinery.SourceFileLoader, name: str) -> CodeType | None:
        if Path(loader.path) != path:
            return original(loader, name)
        return compile(path.read_text().replace(fault.right, fault.wrong), str(path), "exec")

    setattr(importlib.machinery.SourceFileLoader, "get_code", get_code)  # noqa: B010 - or mypy would have a say in it
