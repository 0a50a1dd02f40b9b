"""Which CPythons are on this machine, and which of them an image gets.

Each candidate is asked once, and what it said is remembered by its path, size and time. Only final releases of CPython
3.11 and newer, with a GIL, count: that is what workers run on. uv is always given an absolute path: what it would find
by itself may be pyenv's stand-in for versions that are not chosen.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flyte.atomic import replace_file

Minor = tuple[int, int]

OLDEST: Minor = (3, 11)
"""What our own code needs."""

ASK_LIMIT = 5.0
"""Seconds that one interpreter may take to say what it is."""

_QUESTION = """
import sys, json, sysconfig, platform
print(json.dumps([
    sys.implementation.name, list(sys.version_info[:3]), sys.version_info.releaselevel,
    getattr(sys, "_base_executable", sys.executable), sysconfig.get_config_var("Py_GIL_DISABLED") or 0,
    sysconfig.get_platform(), platform.libc_ver()[0],
]))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    path: str
    """The real executable, also where it was found as that of a virtual environment."""
    version: tuple[int, int, int]
    platform: str
    """System, architecture and C library: packages are built for these."""

    @property
    def minor(self) -> Minor:
        return self.version[0], self.version[1]

    def __str__(self) -> str:
        return ".".join(map(str, self.version))


@dataclass(frozen=True, slots=True)
class Choice:
    interpreter: Interpreter
    note: str = ""
    """What differs from what was asked for; empty: nothing does."""


def find(memo: Path | None = None, environ: Mapping[str, str] = os.environ) -> list[Interpreter]:
    """Those on this machine: the platform's own first, then by version, the newest first. `memo` is a file."""
    known = _remembered(memo)
    answers = {}
    for path in candidates(environ):
        with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
            stat = os.stat(path)
            key = f"{os.path.realpath(path)}:{stat.st_size}:{stat.st_mtime_ns}"
            answers[key] = known.get(key) or _ask(path)
    if memo is not None and answers != known:
        replace_file(memo, json.dumps(answers))
    found = [interpreter for answer in answers.values() if (interpreter := _usable(answer))]
    distinct = list(dict.fromkeys(found))
    return [*distinct[:1], *sorted(distinct[1:], key=lambda one: one.version, reverse=True)]


def _remembered(memo: Path | None) -> dict[str, list[object]]:
    try:
        known = json.loads(memo.read_text()) if memo is not None else {}
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _ask(path: str) -> list[object]:
    command = [path, "-I", "-S", "-c", _QUESTION]
    done = subprocess.run(command, capture_output=True, timeout=ASK_LIMIT, stdin=subprocess.DEVNULL, check=True)
    answer = json.loads(done.stdout)
    if not isinstance(answer, list):
        raise ValueError(f"{path} does not say what it is")
    return answer


def _usable(answer: Sequence[object]) -> Interpreter | None:
    name, version, level, base, without_gil, system, libc = answer
    if name != "cpython" or level != "final" or without_gil or not isinstance(version, list):
        return None
    release = (int(version[0]), int(version[1]), int(version[2]))
    if release[:2] < OLDEST:
        return None
    return Interpreter(os.path.realpath(str(base)), release, f"{system}-{libc or 'none'}")


def candidates(environ: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Executables that may be interpreters, each file once; the platform's own is the first."""
    yield sys.executable
    seen: set[str] = set()
    for pattern in _patterns(environ):
        for path in sorted(glob.glob(pattern)):
            real, number = os.path.realpath(path), os.path.basename(path).removeprefix("python3.")
            if number.isdigit() and real not in seen:  # neither python3.12-config nor python3.13t
                seen.add(real)
                yield path


def _patterns(environ: Mapping[str, str]) -> Iterator[str]:
    """Where interpreters are put: by hand, by version managers, and by the system."""
    home = environ.get("HOME") or os.path.expanduser("~")
    path = [entry for entry in environ.get("PATH", "").split(os.pathsep) if entry]
    data = environ.get("XDG_DATA_HOME") or f"{home}/.local/share"
    roots = (
        f"{environ.get('UV_PYTHON_INSTALL_DIR') or f'{data}/uv/python'}/cpython-*/bin",
        f"{environ.get('PYENV_ROOT') or f'{home}/.pyenv'}/versions/*/bin",
        *(f"{entry.removesuffix('/shims')}/versions/*/bin" for entry in path if entry.endswith("/shims")),
        f"{environ.get('ASDF_DATA_DIR') or f'{home}/.asdf'}/installs/python/*/bin",
        f"{environ.get('MISE_DATA_DIR') or f'{data}/mise'}/installs/python/*/bin",
        *(f"{home}/{name}/envs/*/bin" for name in ("miniconda3", "anaconda3", "miniforge3", "micromamba")),
        "/Library/Frameworks/Python.framework/Versions/3.*/bin",
        "/opt/homebrew/bin",
        "/opt/python/cp3*/bin",
        # pyenv's and asdf's stand-ins end with an error where no version is chosen
        *(entry for entry in path if not entry.endswith("/shims")),
        "/usr/bin",
        "/usr/local/bin",
    )
    return (f"{root}/python3.[0-9]*" for root in dict.fromkeys(roots))


def choose(found: Sequence[Interpreter], python: Minor | None, requires: str = "") -> Choice:
    """The interpreter for an image that asks for the version `python`, or one that meets `requires` (`>=3.12`).

    Where none does, it is the nearest, and the note says so. The platform's own is preferred among equals.
    """
    own = found[0]
    if python is not None:
        fitting = [one for one in found if one.minor == python]
        wanted, asked = python, ".".join(map(str, python))
    elif requires:
        fitting = [one for one in found if meets(one.minor, requires)]
        wanted, asked = own.minor, requires
    else:
        return Choice(own)
    if fitting:
        return Choice(min(fitting, key=lambda one: _distance(one, wanted)))
    nearest = min(found, key=lambda one: _distance(one, wanted))
    there = ", ".join(f"{major}.{minor}" for major, minor in sorted({one.minor for one in found}))
    note = (
        f"it asks for Python {asked}, which is not on this machine (there is {there}); "
        f"it runs on {nearest.minor[0]}.{nearest.minor[1]}"
    )
    return Choice(nearest, note)


def _distance(one: Interpreter, wanted: Minor) -> tuple[int, int]:
    """Of two that are equally far the newer; `min` takes the first of equals, and the platform's own is first."""
    return abs(one.minor[1] - wanted[1]), -one.minor[1]


def meets(minor: Minor, requires: str) -> bool:
    """Whether some release of this minor version meets the requirement: `==3.13` means 3.13 and its patches."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet  # 20 ms, for images that have such a line

    try:
        wanted = SpecifierSet(requires)
    except InvalidSpecifier:
        return True
    return any(wanted.contains(f"{minor[0]}.{minor[1]}.{patch}") for patch in range(100))
