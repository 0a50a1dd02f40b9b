"""The requirements that files name: requirements.txt, pyproject.toml, and the header of a script (PEP 723)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


def arguments(
    index_url: str | None = None,
    extra_index_urls: str | Sequence[str] | None = None,
    pre: bool = False,
    extra_args: str | None = None,
) -> tuple[str, ...]:
    """What an installer is told: `--index-url URL`, `--extra-index-url URL`, `--prerelease allow`, and `extra_args`."""
    more = [extra_index_urls] if isinstance(extra_index_urls, str) else list(extra_index_urls or ())
    return (
        *(("--index-url", index_url) if index_url else ()),
        *(word for url in more for word in ("--extra-index-url", url)),
        *(("--prerelease", "allow") if pre else ()),
        *(shlex.split(extra_args) if extra_args else ()),
    )


def of_requirements_file(file: Path) -> tuple[str, ...]:
    """The packages of a requirements file and of those that it includes with `-r`. Raises ValueError for a circle."""
    return tuple(_lines(file, ()))


def _lines(file: Path, above: tuple[Path, ...]) -> Iterator[str]:
    if file in above:
        raise ValueError(f"requirements files include each other in a circle: {' → '.join(map(str, (*above, file)))}")
    for line in re.sub(r"\\\n", " ", file.read_text()).splitlines():
        text = re.sub(r"(^|\s)#.*", "", line)
        text = re.sub(r"\s--?[a-z-]+[= ].*", "", text).strip()  # such as --hash=…, which pip checks and we do not
        if included := re.match(r"(?:-r|--requirement)[ =]*(\S+)", text):
            yield from _lines(file.parent / included[1], (*above, file))
        elif text and not text.startswith("-"):
            yield text


def of_project(file: Path) -> tuple[str, ...]:
    """The dependencies of a pyproject.toml; those that only `tool.poetry` has, by their names."""
    import tomllib

    content = tomllib.loads(file.read_text())
    dependencies = content.get("project", {}).get("dependencies")
    if dependencies is not None:
        return tuple(dependencies)
    poetry = content.get("tool", {}).get("poetry", {}).get("dependencies", {})
    return tuple(name for name in poetry if name != "python")


def of_script(file: Path) -> dict[str, Any]:
    """The `# /// script` header of a Python file. Raises ValueError where there is none."""
    found = re.search(r"(?m)^# /// script\s*$\n(?P<body>(?:^#(?: .*)?$\n)+?)^# ///\s*$", file.read_text())
    if found is None:
        raise ValueError(f"{file} has no `# /// script` header (PEP 723) that names its dependencies")
    import tomllib

    return tomllib.loads("".join(line[2:] or "\n" for line in found["body"].splitlines(keepends=True)))
