"""What projects ask for: a `pyproject.toml` of uv's with its lock, and a script's header, which may say the same.

The versions of a lock are taken as constraints: what the project asks for is resolved for the platform's machine, and
comes to the locked versions. Packages that are folders of this machine are not installed; what they need is, and their
modules are shipped where the code imports them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flyte._declare.requirements import Needs, of_script

Table = Mapping[str, Any]

_SETTINGS = {
    "index-url": "--index-url",
    "extra-index-url": "--extra-index-url",
    "find-links": "--find-links",
    "index-strategy": "--index-strategy",
    "prerelease": "--prerelease",
    "resolution": "--resolution",
    "exclude-newer": "--exclude-newer",
}
"""Of `[tool.uv]`: what holds for resolving and installing."""

_OF_PROJECTS = {
    "--frozen",
    "--locked",
    "--no-dev",
    "--no-editable",
    "--no-install-project",
    "--no-install-workspace",
    "--no-install-local",
    "--no-default-groups",
    "--inexact",
    "--exact",
}
"""Options of `uv sync` that say what is the case here anyway."""


def of_uv_project(file: Path, lock: Path | None = None, extra_args: str | None = None) -> Needs:
    """The dependencies of a project, with the groups and extras that `extra_args` selects, as `uv sync` does."""
    content = read(file)
    project, tool = content.get("project", {}), content.get("tool", {}).get("uv", {})
    chosen = _Chosen(shlex.split(extra_args or ""))
    lines = _selected(chosen, project, content.get("dependency-groups", {}))
    locked = _Locked(lock or file.parent / "uv.lock")
    found = _of_tables(lines, tool, file.parent, locked)
    return found + Needs(arguments=tuple(chosen.others), python=project.get("requires-python", ""))


def of_uv_script(file: Path) -> Needs:
    """What a script's header asks for, with its lock where that lies beside it. Raises ValueError without a header."""
    header = of_script(file)
    tool = header.get("tool", {}).get("uv", {})
    found = _of_tables(header.get("dependencies", []), tool, file.parent, _Locked(Path(f"{file}.lock")))
    return found + Needs(python=header.get("requires-python", ""))


def read(file: Path) -> Table:
    import tomllib

    try:
        return tomllib.loads(file.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file} is not valid TOML: {error}") from None


def name_of(requirement: str) -> str:
    found = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", requirement)
    return re.sub(r"[-_.]+", "-", found[1]).lower() if found else ""


# --------------------------------------------------------------------------------------------------- what is selected


class _Chosen:
    """The groups and extras that options select; `others` are the remaining options."""

    def __init__(self, words: Sequence[str]) -> None:
        self.groups: list[str] = []
        self.extras: list[str] = []
        self.only = self.all_groups = self.all_extras = False
        self.others: list[str] = []
        rest = iter([part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])])
        for word in rest:
            if word in ("--group", "--only-group"):
                self.groups.append(next(rest, ""))
                self.only = self.only or word == "--only-group"
            elif word == "--extra":
                self.extras.append(next(rest, ""))
            elif word in ("--all-groups", "--all-extras"):
                setattr(self, word[2:].replace("-", "_"), True)
            elif word not in _OF_PROJECTS:
                self.others.append(word)


def _selected(chosen: _Chosen, project: Table, groups: Table) -> list[str]:
    extras = project.get("optional-dependencies", {})
    lines = [] if chosen.only else list(project.get("dependencies", []))
    for name in extras if chosen.all_extras else chosen.extras:
        lines += _named(extras, name, "extra")
    for name in groups if chosen.all_groups else chosen.groups:
        lines += _of_group(groups, name, ())
    return lines


def _named(table: Table, name: str, what: str) -> list[Any]:
    if name not in table:
        raise ValueError(f"the project has no {what} {name!r}; it has {', '.join(table) or 'none'}")
    return list(table[name])


def _of_group(groups: Table, name: str, above: tuple[str, ...]) -> Iterator[str]:
    if name in above:
        raise ValueError(f"dependency groups include each other in a circle: {' → '.join((*above, name))}")
    for entry in _named(groups, name, "dependency group"):
        if isinstance(entry, str):
            yield entry
        elif "include-group" in entry:
            yield from _of_group(groups, entry["include-group"], (*above, name))


# ------------------------------------------------------------------------------------------------- sources and indexes


def _of_tables(lines: Iterable[str], tool: Table, folder: Path, locked: _Locked) -> Needs:
    packages = dict.fromkeys(_placed(lines, tool, folder, locked, ()))
    constraints = [*tool.get("constraint-dependencies", []), *locked.constraints()]
    overrides = tuple(tool.get("override-dependencies", ()))
    return Needs(tuple(packages), tuple(constraints), overrides, tuple(_arguments(tool)))


def _arguments(tool: Table) -> Iterator[str]:
    for index in tool.get("index", []):
        yield from ("--default-index" if index.get("default") else "--index", index["url"])
    for name, option in _SETTINGS.items():
        values = tool.get(name, [])
        for value in [values] if not isinstance(values, list) else values:
            yield from (option, str(value))


def _placed(lines: Iterable[str], tool: Table, folder: Path, locked: _Locked, above: tuple[Path, ...]) -> Iterator[str]:
    """Each requirement from where `[tool.uv.sources]` says; of what is local, its own requirements."""
    sources = {name_of(name): source for name, source in tool.get("sources", {}).items()}
    for line in lines:
        source = sources.get(name_of(line), {})
        source = source[0] if isinstance(source, list) and source else source
        local = _local(source, name_of(line), folder)
        if local is not None:
            if local not in above and (local / "pyproject.toml").exists():
                other = read(local / "pyproject.toml")
                needed = other.get("project", {}).get("dependencies", [])
                yield from _placed(needed, other.get("tool", {}).get("uv", {}), local, locked, (*above, local))
        elif "git" in source:
            yield f"{_head(line)} @ {locked.git(name_of(line)) or _git(source)}{_marker(line)}"
        elif "url" in source:
            yield f"{_head(line)} @ {source['url']}{_marker(line)}"
        else:
            yield line


def _head(requirement: str) -> str:
    """Name and extras."""
    found = re.match(r"\s*[A-Za-z0-9][A-Za-z0-9._-]*\s*(\[[^\]]*\])?", requirement)
    return found[0].strip() if found else requirement


def _marker(requirement: str) -> str:
    _, semicolon, marker = requirement.partition(";")
    return f" ; {marker.strip()}" if semicolon else ""


def _git(source: Table) -> str:
    at = next((source[name] for name in ("rev", "tag", "branch") if name in source), "")
    below = f"#subdirectory={source['subdirectory']}" if "subdirectory" in source else ""
    return f"git+{source['git']}{f'@{at}' if at else ''}{below}"


def _local(source: Table, name: str, folder: Path) -> Path | None:
    """The folder of a requirement that is one."""
    if "path" in source:
        return Path(folder, source["path"]).resolve()
    return _member(name, folder) if source.get("workspace") else None


def _member(name: str, folder: Path) -> Path:
    """The workspace's project of that name; a folder that is not there where it has none."""
    for root in (folder.resolve(), *folder.resolve().parents):
        if not (root / "pyproject.toml").exists():
            continue
        members = read(root / "pyproject.toml").get("tool", {}).get("uv", {}).get("workspace", {}).get("members")
        for pattern in members or ():
            for member in sorted(root.glob(pattern)):
                file = member / "pyproject.toml"
                if file.exists() and name_of(read(file).get("project", {}).get("name", "")) == name:
                    return member
        if members is not None:
            break
    return folder / name


class _Locked:
    """A lock of uv's; empty where there is none."""

    def __init__(self, file: Path) -> None:
        self._packages: list[Table] = read(file).get("package", []) if file.exists() else []

    def constraints(self) -> list[str]:
        """`name==version` of all that comes from an index, but for what has several versions."""
        versions: dict[str, set[str]] = {}
        for package in self._packages:
            if "registry" in package.get("source", {}) and "version" in package:
                versions.setdefault(package["name"], set()).add(package["version"])
        return [f"{name}=={next(iter(found))}" for name, found in versions.items() if len(found) == 1]

    def git(self, name: str) -> str:
        """Where a package comes from, by its commit; empty where that is not a repository."""
        for package in self._packages:
            place = package.get("source", {}).get("git", "")
            if place and name_of(package["name"]) == name:
                url, _, commit = place.partition("#")
                below = re.search(r"[?&]subdirectory=([^&]+)", url)
                fragment = f"#subdirectory={below[1]}" if below else ""
                return f"git+{url.partition('?')[0]}@{commit}{fragment}"
        return ""
