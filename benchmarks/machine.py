"""What a result belongs to: the machine, the commit, and the versions of all that took part."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import peers

_TOOLS = {"nginx": "-v", "redis-server": "--version", "wrk": "--version", "postgres": "--version"}


def where() -> dict[str, Any]:
    """Facts for the head of a result."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 0,
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "load": round(os.getloadavg()[0], 1),
        **{name: metadata.version(name) for name in ("flyte", "uvloop", "msgspec", "litestar", "aiohttp", "uvicorn")},
        "load generator": "wrk" if shutil.which("wrk") else "aiohttp",
        "tools": {tool: version for tool, flag in _TOOLS.items() if (version := _version(tool, flag))},
        "peers": {peer.name: peer.versions() for peer in peers.PEERS if peer.python() is not None},
    }


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(tool: str, flag: str) -> str | None:
    """The first number with a dot in what the program says of itself; None where there is no such program."""
    program = str(peers.postgres_folder() or "") + "/postgres" if tool == "postgres" else shutil.which(tool)
    if not program or not Path(program).exists():
        return None
    said = subprocess.run([program, flag], capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.[\w.]+", said.stdout + said.stderr)
    return found[0] if found else "?"
