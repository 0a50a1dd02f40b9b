"""Who may import whom. The table is the rule; a new part of `tarmac` has to be given its place in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src"

GROUND = {
    "aside",
    "checks",
    "home",
    "inputs",
    "logs",
    "model",
    "process",
    "pulse",
    "settings",
    "starting",
    "workload_files",
}
"""Parts that anybody may use: they know no other part but each other."""

MAY_IMPORT: dict[str, set[str]] = {
    **dict.fromkeys(GROUND, GROUND),
    "blobs": GROUND,
    "store": GROUND,
    "auth": GROUND,
    "secrets": GROUND,
    "images": GROUND,
    "events": GROUND | {"store"},
    "stem": GROUND,
    "links": GROUND,
    "agent": GROUND,
    "gateway": GROUND | {"auth", "events"},
    "control": GROUND | {"store", "blobs", "events", "auth", "secrets", "images", "links"},
    "api": GROUND | {"control", "events", "auth", "store", "blobs", "console", "links"},
    "console": GROUND | {"control", "events", "auth", "store", "blobs", "api"},
}

SEES_ALL = {"__init__", "__main__", "server", "supervisor", "cli"}
"""Where the parts are put together."""

FROM_FLYTE = {f"flyte.{name}" for name in ("wire", "errors", "concurrency", "names", "phases", "rules", "archive")}
"""What the platform may know of the package that users import."""


def modules(package: str) -> list[Path]:
    return sorted((SRC / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The full names of everything that a file imports, at any depth of it."""
    package = path.relative_to(SRC).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            base = ".".join(filter(None, (start, node.module)))
            yield from (f"{base}.{alias.name}" for alias in node.names)


def part_of(path: Path) -> str:
    return path.relative_to(SRC / "tarmac").with_suffix("").parts[0]


@pytest.mark.parametrize("path", modules("flyte"), ids=lambda path: str(path.relative_to(SRC)))
def test_flyte_never_imports_tarmac(path: Path) -> None:
    assert [name for name in imported(path) if name.partition(".")[0] == "tarmac"] == []


@pytest.mark.parametrize("path", modules("tarmac"), ids=lambda path: str(path.relative_to(SRC)))
def test_tarmac_imports_only_messages_errors_and_rules_from_flyte(path: Path) -> None:
    ours = [name for name in imported(path) if name.partition(".")[0] == "flyte"]
    assert [name for name in ours if ".".join(name.split(".")[:2]) not in FROM_FLYTE] == []


@pytest.mark.parametrize("path", modules("tarmac"), ids=lambda path: str(path.relative_to(SRC)))
def test_each_part_imports_only_those_below_it(path: Path) -> None:
    part = part_of(path)
    if part in SEES_ALL:
        return
    assert part in MAY_IMPORT, f"say in MAY_IMPORT what tarmac.{part} may import"
    allowed = MAY_IMPORT[part] | {part}
    parts = {name.split(".")[1] for name in imported(path) if name.startswith("tarmac.")}
    assert parts - allowed - {"__version__"} == set()


def test_the_table_names_no_part_that_is_gone() -> None:
    there = {part_of(path) for path in modules("tarmac")}
    assert set(MAY_IMPORT) - there == set()
