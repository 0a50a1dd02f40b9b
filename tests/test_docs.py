"""The docs say what is: generated pages are current, lists are complete, links lead somewhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyte import errors, wire
from flyte.cli._main import VERBS
from tarmac.settings import SETTINGS
from tests.platform_fixture import ROOT

DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
FUNCTIONS = re.compile(r"`([\w/]+\.py)`:\s+`([\w.]+)`")
QUESTION = re.compile(r"^\| (.*\*\*.+\*\*.*\?) \| `(\S+)` \|$", re.M)
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
SCRIPT = re.compile(r"`?(scripts/[a-z]+)")
PATH = re.compile(r"`((?:src|flyte|tarmac|tests|docs|benchmarks|examples)/[\w./-]+)`")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_generated_pages_are_current() -> None:
    """`scripts/docs` writes them."""
    command = [sys.executable, str(DOCS / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={"PYTHONPATH": str(ROOT / "src")})
    assert done.returncode == 0, done.stderr


def test_nobody_is_told_to_install_tarmac_by_name() -> None:
    """The distribution of that name on the package index is somebody else's."""
    told = re.compile(r"\binstall\b[^\n`]*[\s'\"]tarmac\b(?![/.])")
    files = [*PAGES, ROOT / "pyproject.toml", *(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.html")]
    assert [relative(file) for file in files if told.search(file.read_text())] == []


def requirements() -> Iterator[tuple[str, str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = {
        "To run": project["project"]["dependencies"],
        "With PostgreSQL": project["project"]["optional-dependencies"]["postgres"],
        "To develop": [line for group in project["dependency-groups"].values() for line in group],
    }
    for heading, lines in groups.items():
        yield from ((heading, re.split(r"[\[<>=;~! ]", line)[0]) for line in lines if isinstance(line, str))


@pytest.mark.parametrize(("heading", "package"), sorted(set(requirements())))
def test_every_dependency_has_a_line_that_says_what_it_is_for(heading: str, package: str) -> None:
    page = (DOCS / "dependencies.md").read_text()
    section = next(part for part in page.split("\n## ") if part.startswith(heading))
    assert f"`{package}`" in section or (heading == "To develop" and f"`{package}`" in page)


def test_no_line_is_left_of_a_dependency_that_is_gone() -> None:
    named = re.findall(
        r"`([\w-]+)`(?=[,` |])",
        "\n".join(re.findall(r"^\| (`.+?) \|", (DOCS / "dependencies.md").read_text(), re.M)) + " ",
    )
    assert set(named) - {package for _, package in requirements()} == set()


@pytest.mark.parametrize("name", [row.name for row in SETTINGS])
def test_every_setting_is_documented(name: str) -> None:
    assert f"`TARMAC_{name.upper()}`" in (DOCS / "settings.md").read_text()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_documented_with_an_example(verb: str) -> None:
    page = (DOCS / "cli.md").read_text()
    section = page.split(f"## `flyte {verb}`", 1)[1].split("\n## ", 1)[0]
    assert "Example" in section


@pytest.mark.parametrize("phase", [*wire.ActionPhase, *wire.AppStatus])
def test_every_state_is_documented(phase: str) -> None:
    assert f"`{phase}`" in (DOCS / "states.md").read_text()


def test_every_error_says_when_it_is_raised() -> None:
    silent = [name for name, cls in errors.by_code().items() if not (cls.__doc__ or "").strip()]
    assert silent == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_link_leads_to_a_file(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_script_that_is_named_exists(page: Path) -> None:
    named = set(SCRIPT.findall(page.read_text()))
    assert [name for name in named if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=relative)
def test_every_path_that_is_named_exists(page: Path) -> None:
    """A path of the code begins at the top of the repository or below `src`."""
    named = set(PATH.findall(page.read_text()))
    assert [name for name in named if not ((ROOT / name).exists() or (ROOT / "src" / name).exists())] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=relative)
def test_every_function_that_is_named_with_its_file_exists(page: Path) -> None:
    named = set(FUNCTIONS.findall(page.read_text()))
    assert sorted((file, name) for file, name in named if name not in definitions(ROOT / "src" / file)) == []


def definitions(file: Path) -> set[str]:
    """The functions and classes of a file, and their methods as `Class.method`."""
    found = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
            found |= {f"{node.name}.{method.name}" for method in methods}
    return found


def questions() -> list[tuple[str, str]]:
    return QUESTION.findall((DOCS / "architecture.md").read_text())


def test_the_map_answers_at_least_ten_questions_and_the_walk_names_its_functions() -> None:
    assert len(questions()) >= 10
    assert len(FUNCTIONS.findall((DOCS / "architecture.md").read_text())) >= 30


@pytest.mark.parametrize(("question", "file"), questions())
def test_a_file_says_in_its_first_line_what_the_map_says_of_it(question: str, file: str) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / "src" / file).read_text())) or ""
    first = docstring.partition("\n")[0].lower()
    assert [word for word in re.findall(r"\*\*(.+?)\*\*", question) if word.lower() not in first] == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_python_block_is_python(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S):
        compile(block, relative(page), "exec")


@pytest.mark.parametrize("page", sorted((DOCS / "patterns").glob("*.md")), ids=relative)
def test_a_patterns_code_is_that_of_its_example(page: Path) -> None:
    quoted = re.findall(r"<!-- from (\S+) -->\n```python\n(.*?)```", page.read_text(), re.S)
    assert quoted, "the page shows no code of an example"
    for name, block in quoted:
        assert block in (ROOT / name).read_text(), f"{name} no longer reads like this:\n{block}"


def test_every_example_has_a_page_that_shows_it() -> None:
    shown = "".join(page.read_text() for page in (DOCS / "patterns").glob("*.md"))
    named = shown + (ROOT / "README.md").read_text() + (DOCS / "quickstart.md").read_text()
    assert [path.name for path in (ROOT / "examples").glob("*.py") if path.name not in named] == []
