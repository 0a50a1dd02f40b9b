"""What files ask for: requirements.txt and what it includes, and the header of a script (PEP 723)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Needs:
    """What one or several files ask for."""

    packages: tuple[str, ...] = ()
    """Requirement strings, with hashes where the file has some."""
    constraints: tuple[str, ...] = ()
    """Requirement strings for what is installed because something else needs it."""
    overrides: tuple[str, ...] = ()
    """Requirement strings that replace all others for the same package."""
    arguments: tuple[str, ...] = ()
    """Options of the installer, one word each."""
    python: str = ""
    """Such as `>=3.12`."""

    def __add__(self, other: Needs) -> Needs:
        return Needs(
            self.packages + other.packages,
            self.constraints + other.constraints,
            self.overrides + other.overrides,
            self.arguments + other.arguments,
            ",".join(filter(None, (self.python, other.python))),
        )


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


def of_requirements_file(file: Path) -> Needs:
    """A requirements file with those that it includes (`-r`, `-c`), its indexes and hashes, as pip reads it.

    Raises ValueError for files that include each other in a circle, and for packages that are folders or files of this
    machine, which an environment on the platform's cannot have.
    """
    return _of_file(file, ())


def _of_file(file: Path, above: tuple[Path, ...]) -> Needs:
    if file in above:
        raise ValueError(f"requirements files include each other in a circle: {' → '.join(map(str, (*above, file)))}")
    found = Needs()
    for line in re.sub(r"\\\r?\n", " ", file.read_text()).splitlines():
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        if text:
            found += _of_line(text, file, (*above, file))
    return found


def _of_line(text: str, file: Path, above: tuple[Path, ...]) -> Needs:
    included = re.match(r"(-r|--requirement|-c|--constraint)(?:\s+|=|(?<=-[rc]))\s*(\S+)$", text)
    if included is not None:
        other = _of_file(file.parent / included[2], above)
        if included[1] in ("-r", "--requirement"):
            return other
        return Needs(constraints=other.packages + other.constraints, arguments=other.arguments)
    if re.match(r"(-e|--editable)\b|\.{0,2}/|\.$|file:", text):
        raise ValueError(
            f"{file}: {text!r} is a folder or file of this machine, which cannot be installed into the environment; "
            "its modules are shipped where your code imports them: leave the line out"
        )
    if text.startswith("-"):
        return Needs(arguments=tuple(_option(text, file)))
    hashes = re.findall(r"--hash[= ]\S+", text)
    requirement = re.sub(r"\s+--?[a-z][a-z-]*[= ].*", "", text)
    return Needs(packages=(" ".join([requirement, *hashes]),))


def _option(text: str, file: Path) -> list[str]:
    """The words of an option; a folder of packages is relative to the file that names it."""
    words = shlex.split(text.replace("=", " ", 1) if text.startswith("--") else text)
    if words[0] in ("-f", "--find-links") and len(words) == 2 and "://" not in words[1]:
        words[1] = str((file.parent / words[1]).resolve())
    return words


def of_script(file: Path) -> dict[str, Any]:
    """The `# /// script` header of a Python file. Raises ValueError where there is none."""
    found = re.search(r"(?m)^# /// script\s*$\n(?P<body>(?:^#(?: .*)?$\n)+?)^# ///\s*$", file.read_text())
    if found is None:
        raise ValueError(f"{file} has no `# /// script` header (PEP 723) that names its dependencies")
    import tomllib

    return tomllib.loads("".join(line[2:] or "\n" for line in found["body"].splitlines(keepends=True)))
