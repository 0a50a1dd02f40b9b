"""The files that are not shipped: those of our own list, and those that `.gitignore` and `.flyteignore` name.

The patterns are read as git reads them; a test compares the two. The last rule that matches decides. An ignored folder
is not entered, so no pattern that begins with `!` can take back a file in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

NAMES = (".gitignore", ".flyteignore")

NEVER_SHIPPED = frozenset({".git", ".hg", ".svn", "__pycache__"})
"""Folders that no pattern can take back: `!*` does not mean them."""

BUILT_IN = (
    "*.py[cod]",
    ".venv/",
    "node_modules/",
    ".mypy_cache/",
    ".pytest_cache/",
    ".ruff_cache/",
    ".tox/",
    ".nox/",
    ".ipynb_checkpoints/",
    ".idea/",
    ".vscode/",
    ".DS_Store",
    "*.egg-info/",
    "*.log",
    ".env",
    ".env.*",
    ".tarmac/",
    ".flyte/",
    "/dist/",
    "/build/",
)


@dataclass(frozen=True, slots=True)
class Rule:
    base: str
    """The folder that the rule was written for, relative to the root; empty for the root itself."""
    pattern: re.Pattern[str]
    negated: bool
    only_folders: bool
    above: str = ""
    """For a rule of a folder above the root: the way down from there to the root, with a `/` at its end."""

    def matches(self, path: str, is_folder: bool) -> bool:
        if self.only_folders and not is_folder:
            return False
        if self.base:
            if not path.startswith(self.base + "/"):
                return False
            path = path[len(self.base) + 1 :]
        return self.pattern.fullmatch(self.above + path) is not None


def files(root: Path) -> Iterator[str]:
    """Every file below `root` that is shipped with `copy_style="all"`: paths relative to it, with `/`, in order."""
    yield from sorted(_walk(root, "", [*_rules(BUILT_IN, ""), *_above(root)]))


def files_of_a_copy(folder: Path, dockerignore: Path) -> Iterator[str]:
    """Every file below a folder that an image copies, less what the .dockerignore names: paths relative to the folder.

    Unlike git's, a pattern without `**` holds for the top of the folder only.
    """
    anchored = []
    for line in dockerignore.read_text(errors="replace").splitlines() if dockerignore.is_file() else ():
        mark, text = ("!", line[1:]) if line.startswith("!") else ("", line)
        anchored.append(line if not text.strip() or text.startswith("#") else f"{mark}/{text.strip().lstrip('/')}")
    yield from sorted(_walk(folder, "", _rules([".venv/", *anchored], "")))


def _walk(root: Path, folder: str, rules: list[Rule]) -> Iterator[str]:
    rules = rules + [rule for name in NAMES for rule in _rules_in(root / folder / name, folder)]
    with os.scandir(root / folder) as entries:
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            if _ignored(path, is_folder, rules):
                continue
            if is_folder:
                is_environment = os.path.exists(os.path.join(entry.path, "pyvenv.cfg"))
                if not is_environment and entry.name not in NEVER_SHIPPED:
                    yield from _walk(root, path, rules)
            elif entry.is_file():
                yield path


def _ignored(path: str, is_folder: bool, rules: list[Rule]) -> bool:
    for rule in reversed(rules):
        if rule.matches(path, is_folder):
            return not rule.negated
    return False


def _above(root: Path) -> list[Rule]:
    """The rules of the repository's folders above `root`, as they read from there."""
    folders = []
    for folder in (root, *root.parents):
        if folder != root:
            folders.append(folder)
        if (folder / ".git").exists():
            break
    else:
        return []
    found: list[Rule] = []
    for folder in reversed(folders):
        way = root.relative_to(folder).as_posix() + "/"
        found += [replace(rule, above=way) for rule in _rules_in(folder / ".gitignore", "")]
    return found


def _rules_in(file: Path, base: str) -> list[Rule]:
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return _rules(lines, base)


def _rules(lines: list[str] | tuple[str, ...], base: str) -> list[Rule]:
    return [rule for line in lines if (rule := _rule(line, base)) is not None]


def _rule(line: str, base: str) -> Rule | None:
    """The rule of a line; None for a comment, and for a pattern that is not valid, which matches nothing."""
    text = re.sub(r"(?<!\\) +$", "", line)
    if not text or text.startswith("#"):
        return None
    negated = text.startswith("!")
    text = text.removeprefix("!")
    only_folders = text.endswith("/")
    text = text.rstrip("/")
    if not text:
        return None
    try:
        expression = _expression(text.removeprefix("/"))
        pattern = re.compile(expression if "/" in text else f"(?:.*/)?{expression}")
    except (ValueError, re.error):
        return None
    return Rule(base, pattern, negated, only_folders)


def _expression(text: str) -> str:
    """The regular expression for a pattern without its marks at either end. Raises ValueError for an incomplete one."""
    parts: list[str] = []
    at = 0
    while at < len(text):
        if text.startswith("**/", at) and (at == 0 or text[at - 1] == "/"):
            parts.append("(?:.*/)?")
            at += 3
        elif text[at:] == "**" and (at == 0 or text[at - 1] == "/"):
            parts.append(".+")
            at += 2
        elif text[at] == "*":
            parts.append("[^/]*")
            at += 1
        elif text[at] == "?":
            parts.append("[^/]")
            at += 1
        elif text[at] == "[":
            expression, end = _bracket(text, at)
            parts.append(expression)
            at = end + 1
        elif text[at] == "\\":
            if at + 1 == len(text):
                raise ValueError(f"{text!r} ends with a backslash")
            parts.append(re.escape(text[at + 1]))
            at += 2
        else:
            parts.append(re.escape(text[at]))
            at += 1
    return "".join(parts)


def _bracket(text: str, at: int) -> tuple[str, int]:
    """The expression for the set of characters that begins at `at`, and where the set ends. Raises ValueError."""
    is_negated = text[at + 1 : at + 2] in ("!", "^")
    start = at + 2 if is_negated else at + 1
    end = text.index("]", start + 1)  # a `]` in the first place is one of the characters
    inner = re.sub(r"[\[\]\\&~|^]", r"\\\g<0>", text[start:end])
    return f"(?!/)[{'^' if is_negated else ''}{inner}]", end
