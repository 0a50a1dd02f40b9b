"""One word for one thing: the words that docs/glossary.md rules out are not used in the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.platform_fixture import ROOT

GLOSSARY = ROOT / "docs" / "glossary.md"
ENDINGS = {".py", ".html", ".js", ".css", ".lua", ".sql"}

NOT_YET: dict[str, tuple[str, ...]] = {
    "errand": ("src/tarmac/control",),  # the background work of the control plane, whose files are still being moved
    "holdings": ("src/tarmac/home.py", "src/tarmac/agent/isolation.py"),  # a file's name, which stored platforms have
}
"""Word → the folders and files in which it still stands. A name leaves this table when it is renamed; none is added."""


def ruled_out() -> list[str]:
    """The words in the last column of the glossary's tables, and `whoever`, which its rules for sentences name."""
    rows = re.findall(r"^\| \*\*.*\|(.*)\|$", GLOSSARY.read_text(), re.M)
    return sorted({word for row in rows for word in re.findall(r"`([^`]+)`", row)} | {"whoever"})


def spoken(text: str) -> str:
    """The text with each identifier as its words: `ForkServer` and `fork_server` become `fork server`."""
    without_paths = re.sub(r"\.stem\b", "", text)  # pathlib's name for a part of a path
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_", " ", without_paths)
    return re.sub(r"\s+", " ", apart).lower()


@cache
def sources() -> dict[str, str]:
    files = [path for path in (ROOT / "src").rglob("*") if path.suffix in ENDINGS]
    return {str(path.relative_to(ROOT)): spoken(f"{path.relative_to(ROOT)} {path.read_text()}") for path in files}


def users_of(word: str) -> Iterator[str]:
    pattern = re.compile(rf"(?<![a-z]){re.escape(word)}s?(?![a-z])")
    return (name for name, text in sources().items() if pattern.search(text))


def is_allowed(word: str, name: str) -> bool:
    return any(Path(name).is_relative_to(folder) for folder in NOT_YET.get(word, ()))


@pytest.mark.parametrize("word", ruled_out())
def test_a_word_that_the_glossary_rules_out_is_not_used(word: str) -> None:
    assert [name for name in users_of(word) if not is_allowed(word, name)] == []


def test_nothing_is_no_something() -> None:
    """`is not a valid name`, never `is no name`; `there is no name` is plain English."""
    odd = re.compile(r"(?<!there )(?<!that )\b(?:is|are) no (?!longer\b|more\b|other\b|better\b|reason\b)[a-z]+")
    found = {name: odd.findall(text) for name, text in sources().items() if name.endswith(".py")}
    assert {name: phrases for name, phrases in found.items() if phrases} == {}


@pytest.mark.parametrize("word", sorted(NOT_YET))
def test_a_word_that_is_renamed_leaves_the_table(word: str) -> None:
    used = list(users_of(word))
    gone = [folder for folder in NOT_YET[word] if not any(Path(name).is_relative_to(folder) for name in used)]
    assert word in ruled_out()
    assert gone == []


def test_every_word_of_the_glossary_has_one_row() -> None:
    rows = re.findall(r"^\| (\*\*.*?) \|", GLOSSARY.read_text(), re.M)
    words = [word for row in rows for word in re.findall(r"\*\*(.+?)\*\*", row)]
    assert len(words) == len(set(words)) > 30
