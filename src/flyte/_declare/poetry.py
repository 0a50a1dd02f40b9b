"""What a project of Poetry's asks for, in the words that pip and uv understand. Its lock becomes constraints."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flyte._declare.projects import name_of, read
from flyte._declare.requirements import Needs

Table = Mapping[str, Any]


def of_poetry_project(file: Path, lock: Path | None = None, extra_args: str | None = None) -> Needs:
    """The project's main dependencies, and the groups (`--with`, `--only`) and extras that `extra_args` selects."""
    content = read(file)
    project, poetry = content.get("project", {}), content.get("tool", {}).get("poetry", {})
    with_groups, only_groups, extras = _chosen(shlex.split(extra_args or ""))
    main = dict(poetry.get("dependencies", {}))
    python = project.get("requires-python") or _versions(str(main.pop("python", "*")))
    lines: list[str] = []
    if not only_groups or "main" in only_groups:
        lines += _main(project, main, extras, poetry.get("extras", {}), file.parent)
    for name in (*with_groups, *only_groups):
        if name != "main":
            lines += _lines(_group(poetry, name), file.parent)
    constraints = _locked(lock or file.parent / "poetry.lock")
    return Needs(tuple(dict.fromkeys(lines)), tuple(constraints), arguments=tuple(_indexes(poetry)), python=python)


def _chosen(words: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Groups besides the main one, groups alone, extras."""
    found: dict[str, list[str]] = {"--with": [], "--only": [], "--extras": []}
    rest = iter([part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])])
    for word in rest:
        name = "--extras" if word == "-E" else word
        if name in found:
            found[name] += re.split(r"[\s,]+", next(rest, "").strip())
        elif word == "--all-extras":
            found["--extras"].append("*")
    return found["--with"], found["--only"], found["--extras"]


def _main(project: Table, main: Table, extras: list[str], named: Mapping[str, list[str]], folder: Path) -> list[str]:
    lines = list(project.get("dependencies", []))
    optional = project.get("optional-dependencies", {})
    every = {*optional, *named} if "*" in extras else set(extras)
    for extra in sorted(every):
        lines += optional.get(extra, [])
    wanted = {name_of(name) for extra in every for name in named.get(extra, [])}
    said = {name_of(line) for line in lines}
    chosen = {
        name: value
        for name, value in main.items()
        if name_of(name) not in said and (not _is_optional(value) or name_of(name) in wanted)
    }
    return [*lines, *_lines(chosen, folder)]


def _is_optional(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value.get("optional"))


def _group(poetry: Table, name: str) -> Table:
    if name == "dev" and "dev-dependencies" in poetry:
        return dict(poetry["dev-dependencies"])
    groups = poetry.get("group", {})
    if name not in groups:
        raise ValueError(f"the project has no dependency group {name!r}; it has {', '.join(groups) or 'none'}")
    return dict(groups[name].get("dependencies", {}))


def _lines(table: Table, folder: Path) -> list[str]:
    return [
        line
        for name, value in table.items()
        for each in (value if isinstance(value, list) else [value])
        for line in _line(name, {"version": each} if isinstance(each, str) else each, folder)
    ]


def _line(name: str, value: Table, folder: Path) -> Iterator[str]:
    """One dependency as a requirement; what a folder of this machine needs, for one that is such."""
    extras = f"[{','.join(value['extras'])}]" if value.get("extras") else ""
    if "path" in value:
        other = folder / value["path"] / "pyproject.toml"
        yield from of_poetry_project(other).packages if other.exists() else ()
        return
    if "git" in value:
        at = next((value[key] for key in ("rev", "tag", "branch") if key in value), "")
        place = f" @ git+{value['git']}{f'@{at}' if at else ''}"
    else:
        place = f" @ {value['url']}" if "url" in value else _versions(str(value.get("version", "*")))
    markers = [value["markers"]] if "markers" in value else []
    if "python" in value:
        markers += [f"python_version {part}" for part in _quoted(_versions(value["python"]))]
    yield f"{name}{extras}{place}{' ; ' if markers else ''}{' and '.join(markers)}"


def _quoted(versions: str) -> Iterator[str]:
    for part in filter(None, versions.split(",")):
        found = re.match(r"([<>=!~]+)\s*(.+)", part)
        if found is not None:
            yield f"{found[1]} '{found[2]}'"


def _versions(text: str) -> str:
    """Poetry's versions (`^1.2`, `~1.2`, `1.*`, `>=1,<2`) as pip's. Raises ValueError for alternatives (`||`)."""
    if "|" in text:
        raise ValueError(f"{text!r} names alternatives, which no installer but Poetry understands; name one range")
    return ",".join(
        filter(None, (_version(part) for part in re.split(r"\s*,\s*|(?<=\d)\s+(?=[<>=!~^])", text.strip())))
    )


def _version(text: str) -> str:
    if text in ("", "*"):
        return ""
    if text[0] not in "^~" or text.startswith("~="):
        return text if text[0] in "<>=!~" else f"=={text}"
    least = text[1:].strip()
    numbers = [int(part) for part in re.findall(r"\d+", least.split("-")[0].split("+")[0])]
    if text[0] == "~":
        at = min(1, len(numbers) - 1)
    else:
        at = next((index for index, number in enumerate(numbers) if number), len(numbers) - 1)
    most = [*numbers[:at], numbers[at] + 1]
    return f">={least},<{'.'.join(map(str, most))}"


def _indexes(poetry: Table) -> Iterator[str]:
    for source in poetry.get("source", []):
        first = source.get("default") or source.get("priority") in ("default", "primary")
        if "url" in source:
            yield from ("--index-url" if first else "--extra-index-url", source["url"])


def _locked(file: Path) -> Iterator[str]:
    """`name==version` of all that comes from an index, but for what has several versions."""
    versions: dict[str, set[str]] = {}
    for package in read(file).get("package", []) if file.exists() else ():
        if package.get("source", {}).get("type") not in ("git", "directory", "file", "url"):
            versions.setdefault(package["name"], set()).add(package["version"])
    yield from (f"{name}=={next(iter(found))}" for name, found in versions.items() if len(found) == 1)
