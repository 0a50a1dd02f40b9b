"""Who may import whom. The table is the rule; a new part of `tarmac` has to be given its place in it."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src"

GROUND = {
    "aside",
    "checks",
    "disk",
    "home",
    "inputs",
    "line_times",
    "logs",
    "model",
    "process",
    "heartbeat",
    "hosts",
    "schedule",
    "settings",
    "starting",
    "workload_files",
}
"""Parts that anybody may use: they know no other part but each other."""

MAY_IMPORT: dict[str, set[str]] = {
    **dict.fromkeys(GROUND, GROUND),
    "blobs": GROUND,
    "store": GROUND,
    "auth": GROUND | {"open_calls"},
    "open_calls": set(),
    "secrets": GROUND,
    "environments": GROUND | {"images"},
    "oci": GROUND | {"environments", "images"},
    "older_version": set(),
    "images": GROUND | {"environments"},
    "events": GROUND | {"store"},
    "fork_server": GROUND,
    "links": GROUND,
    "agent": GROUND | {"blobs", "environments", "images", "links"},
    "gateway": GROUND | {"auth", "events", "links"},
    "control": GROUND | {"store", "blobs", "events", "auth", "secrets", "images", "links"},
    "api": GROUND | {"control", "events", "auth", "store", "blobs", "console", "links"},
    "console": GROUND | {"control", "events", "auth", "store", "blobs", "api"},
}

CONTROL_GROUND = {
    "agents",
    "artifacts",
    "clock",
    "errands",
    "folders",
    "gateway",
    "images",
    "live",
    "live_apps",
    "ports",
    "recent",
    "records",
    "sessions",
    "startup",
    "suspects",
    "vault",
}
"""Inside the control plane: what is in memory, the processes at the other ends of links, and what all its parts use."""

INSIDE_CONTROL: dict[str, set[str]] = {
    **dict.fromkeys(CONTROL_GROUND, CONTROL_GROUND),
    "workers": CONTROL_GROUND,
    "runs": CONTROL_GROUND | {"workers"},
    "apps": CONTROL_GROUND | {"workers", "runs"},
    "builds": CONTROL_GROUND,
    "collector": CONTROL_GROUND,
    "keys": CONTROL_GROUND,
    "projects": CONTROL_GROUND,
    "triggers": CONTROL_GROUND | {"runs"},
    "inbox": CONTROL_GROUND | {"workers", "runs"},
    "watching": CONTROL_GROUND | {"runs", "apps"},
}
"""What is below reports to what is above through `ports`. `control/__init__.py` puts the parts together."""

SEES_ALL = {"__init__", "__main__", "server", "supervisor", "cli"}
"""Where the parts are put together."""

FROM_FLYTE = {
    f"flyte.{name}"
    for name in (
        "wire",
        "cache_key",
        "errors",
        "tracebacks",
        "concurrency",
        "distributions",
        "names",
        "phases",
        "rules",
        "archive",
        "atomic",
        "json_schema",
        "moments",
        "object_store",
        "official",
        "backoff",
        "log_times",
    )
}
"""What the platform may know of the package that users import."""


FLOORS: tuple[set[str], ...] = (
    {"mixture", "tracebacks", "_calling", "_loop_thread"},
    {
        "errors",
        "rules",
        "names",
        "distributions",
        "atomic",
        "backoff",
        "_absent",
        "_sync",
        "_logging",
        "json_schema",
        "moments",
        "log_times",
        "runtime.identity",
    },
    {
        "wire",
        "concurrency",
        "archive",
        "official",
        "syncify",
        "object_store",
        "_importing",
        "_plugins",
        "_absent_modules",
    },
    {"_version", "phases", "cache_key", "_failure", "_values", "_checkpoint"},
    {"_context", "_client", "types"},
    {"_declare", "report"},
    {"_session", "_map", "_trace", "models"},
    {"storage"},
    {"io", "config"},
    {"artifacts"},
    {"app", "runtime"},
    {"_ship"},
    {"_local"},
    {"remote"},
    {"_run", "_serve", "extend", "_for_plugins"},
    {"flyte"},
    {"app.extras", "cli"},
)
"""The parts of `flyte`, lowest first: a part may import only those on lower floors. `flyte` is `flyte/__init__.py`."""


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


@pytest.mark.parametrize("path", modules("tarmac/control"), ids=lambda path: str(path.relative_to(SRC)))
def test_inside_the_control_plane_each_part_imports_only_those_below_it(path: Path) -> None:
    part = path.relative_to(SRC / "tarmac/control").with_suffix("").parts[0]
    if part == "__init__":
        return
    assert part in INSIDE_CONTROL, f"say in INSIDE_CONTROL what tarmac.control.{part} may import"
    parts = {name.split(".")[2] for name in imported(path) if name.startswith("tarmac.control.")}
    assert parts - INSIDE_CONTROL[part] - {part} == set()


EACH_OTHER = {("tarmac.agent.unit", "tarmac.agent.fork_server")}
"""A fork server knows its units, and each unit the fork server that forked it: both are halves of one record."""


def test_no_module_of_the_platform_imports_itself_by_a_detour() -> None:
    """Imports inside functions and for type annotations count."""
    paths = modules("tarmac")
    named = {".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    needs = {
        name: {found for each in imported(path) if (found := _module(each, named)) and (name, found) not in EACH_OTHER}
        for name, path in named.items()
    }
    graphlib.TopologicalSorter({name: found - {name} for name, found in needs.items()}).prepare()


def _module(name: str, named: Mapping[str, Path]) -> str:
    """The module among `named` that an imported name belongs to, or an empty text."""
    while name and name not in named:
        name = name.rpartition(".")[0]
    return name


LONGEST_MODULE = 400


def test_no_module_is_longer_than_400_lines() -> None:
    lengths = {str(path.relative_to(SRC)): len(path.read_text().splitlines()) for path in SRC.rglob("*.py")}
    assert {name for name, length in lengths.items() if length > LONGEST_MODULE} == set()


def test_the_table_names_no_part_that_is_gone() -> None:
    there = {part_of(path) for path in modules("tarmac")}
    assert set(MAY_IMPORT) - there == set()
    inside = {path.relative_to(SRC / "tarmac/control").with_suffix("").parts[0] for path in modules("tarmac/control")}
    assert set(INSIDE_CONTROL) - inside == set()


# ---- inside flyte


def name_of(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in modules("flyte")}


def files_imported(path: Path) -> set[str]:
    """The files of `flyte` that a file imports, for types and inside functions too."""
    found = set()
    for name in imported(path):
        if name.partition(".")[0] == "flyte":
            found.add(name if name in FILES else name.rpartition(".")[0])
    return found - {name_of(path)}


def part_of_flyte(name: str) -> str:
    """The part that a file belongs to: the longest entry of FLOORS that its name begins with."""
    words = name.split(".")[1:]
    whole = [".".join(words[:count]) for count in range(len(words), 0, -1)]
    return next((part for part in whole if any(part in floor for floor in FLOORS)), words[0] if words else "flyte")


def floor_of(part: str) -> int:
    found = [number for number, floor in enumerate(FLOORS) if part in floor]
    assert found, f"say in FLOORS on which floor flyte.{part} is"
    return found[0]


@pytest.mark.parametrize("name", FILES)
def test_each_part_of_flyte_imports_only_those_on_lower_floors(name: str) -> None:
    part = part_of_flyte(name)
    others = {part_of_flyte(other) for other in files_imported(FILES[name])} - {part}
    assert [other for other in sorted(others) if floor_of(other) >= floor_of(part)] == []


def test_no_files_of_flyte_import_each_other_in_a_circle() -> None:
    graph = {name: files_imported(path) for name, path in FILES.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_the_floors_name_no_part_that_is_gone() -> None:
    assert {part for floor in FLOORS for part in floor} - {part_of_flyte(name) for name in FILES} == set()
