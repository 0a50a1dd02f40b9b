"""The marks in the environments of a platform's processes, by which those that were left behind are found and ended."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from tarmac.process.ending import kill
from tarmac.process.table import ancestry, environment, find

MARK = "TARMAC_PLATFORM"
"""The environment variable that every process beneath a supervisor carries: the platform's folder."""

LIFE = "TARMAC_LIFE"
"""The environment variable with a random word for the time from a start of the platform to its end."""

UNIT_MARK = "TARMAC_AGENT"
"""What the agent's descendants carries besides: the agent's pid."""

_LOOK_AGAIN = 0.02


def marked(home: Path) -> set[int]:
    """Every process beneath the supervisor of `home`, except the caller and those it descends from."""
    return find(lambda env: env.get(MARK) == str(home), _hint(home)) - ancestry()


def orphaned_units(home: Path) -> set[int]:
    """Fork servers and units of the platform in `home`: for an agent that has started none, those of an earlier one."""
    return find(lambda env: env.get(MARK) == str(home) and UNIT_MARK in env, _hint(home)) - ancestry()


def is_unit_of(pid: int, agent: int) -> bool:
    """Whether `pid` is (still) a fork server or a unit of the agent with that pid."""
    return environment(pid).get(UNIT_MARK) == str(agent)


def leftovers(units: Mapping[str, int]) -> set[int]:
    """What units (name → pid) that have ended left behind: their sessions, and what has their name in its variables."""
    return find(lambda env: env.get("FLYTE_UNIT") in units, b"FLYTE_UNIT=", set(units.values()))


def _hint(home: Path) -> bytes:
    return f"{MARK}=".encode() + os.fsencode(home)


def end_marked(home: Path, limit: float) -> set[int]:
    """Kill every process of the platform in `home` but the caller; those that are not gone within `limit` seconds."""
    deadline = time.monotonic() + limit
    while (left := marked(home)) and time.monotonic() < deadline:
        kill(left)
        time.sleep(_LOOK_AGAIN)
    return left


def family_environment(home: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for the platform's own processes: with the mark, and PYTHONPATH free of relative folders."""
    return with_absolute_path({**environ, MARK: str(home)})


def life() -> str:
    """The word for this life of the platform; for a part that was started alone it is that of its parent."""
    return os.environ.get(LIFE) or str(os.getppid())


def with_absolute_path(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with a PYTHONPATH that means the same in every working directory."""
    path = environ.get("PYTHONPATH")
    if not path:
        return dict(environ)
    return {**environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(part) for part in path.split(os.pathsep) if part)}
