"""The platform of this machine: found by its state file, started when there is none.

`$TARMAC_HOME` (default `~/.tarmac`) holds `platform.json`, which a running platform writes and removes,
`supervisor.lock`, which it holds, and `token`, the owner's key. Everything here blocks; async code calls it on a
thread.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from flyte._client.transport import probe
from flyte.errors import InitializationError

START_TIMEOUT = 180.0
"""Seconds for `tarmac up`, which answers when the platform does."""

RESTART_TIMEOUT = 30.0
"""Seconds that a living platform has to answer: it may be restarting one of its parts."""


@dataclass(frozen=True, slots=True)
class Found:
    endpoint: str
    token: str
    started: bool = False
    """We started it, just now."""


def home() -> Path:
    """The platform's folder."""
    named = os.environ.get("TARMAC_HOME")
    return Path(named).expanduser().absolute() if named else Path.home() / ".tarmac"


def find_or_start() -> Found:
    """The platform of this machine, running. Raises InitializationError, which says what is wrong and what helps."""
    found = find()
    if found is not None:
        return found
    _start()
    found = find()
    if found is None:
        raise InitializationError(
            "PlatformStartError",
            "user",
            f"the platform said it started, but {home() / 'platform.json'} names none that answers",
        )
    return Found(found.endpoint, found.token, started=True)


def find(patience: float = RESTART_TIMEOUT) -> Found | None:
    """The running platform of this machine, or None; one that is there gets `patience` seconds to answer."""
    end = time.monotonic() + patience
    while (state := _state()) is not None:
        endpoint, pid = state
        if not _is_held():  # asked first: anybody may have the port of a platform that is gone, and would get its key
            return None
        health = probe(endpoint)
        if health is not None and health.status == "ok":
            return Found(endpoint, _token())
        if time.monotonic() > end:
            raise InitializationError(
                "PlatformNotReadyError",
                "system",
                f"the local platform (process {pid}) does not answer at {endpoint}; look into {home() / 'logs'}, "
                "or restart it with `flyte down` and `flyte up`",
            )
        time.sleep(0.1)
    return None


def owner_token(endpoint: str) -> str | None:
    """The owner's key, where `endpoint` is the platform of this machine; it is sent nowhere else."""
    state = _state()
    if state is None or _place(state[0]) != _place(endpoint) or _place(endpoint) is None or not _is_held():
        return None
    try:
        return _token()
    except InitializationError:
        return None


def shortcut(endpoint: str) -> str | None:
    """The link of the platform behind `endpoint`, where that is on this machine and open to this user.

    A process of the platform has it in its environment, everybody else finds it in the home of the platform that runs.
    """
    link, own = os.environ.get("FLYTE_LINK"), os.environ.get("FLYTE_ENDPOINT", "")
    if link and _place(own) is not None and _place(own) == _place(endpoint):
        socket = Path(link)
    else:
        state = _state()
        if state is None or _place(endpoint) is None or _place(state[0]) != _place(endpoint):
            return None
        socket = home() / "run" / "link" / "link.sock"
    return str(socket) if os.access(socket, os.R_OK | os.W_OK) else None


def home_of(endpoint: str) -> Path | None:
    """The folder of the platform behind `endpoint`, where that runs on this machine and as this user."""
    state, folder = _state(), home()
    if state is None or _place(endpoint) is None or _place(state[0]) != _place(endpoint):
        return None
    return folder if folder.stat().st_uid == os.getuid() else None


def _place(endpoint: str) -> tuple[str, int] | None:
    """Host and port of an address on this machine, None for any other."""
    parts = urlsplit(endpoint)
    if parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        return None
    return "127.0.0.1", parts.port or 80


def _state() -> tuple[str, int] | None:
    try:
        state = json.loads((home() / "platform.json").read_text())
        return str(state["endpoint"]), int(state["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _token() -> str:
    path = home() / "token"
    try:
        return path.read_text().strip()
    except OSError as error:
        raise InitializationError(
            "NotAuthenticatedError",
            "user",
            f"the local platform runs, but its key cannot be read: {path}: {error.strerror}",
        ) from None


def _is_held() -> bool:
    """Whether anybody runs the platform of this folder, or cleans up after it: that one holds the lock.

    The pid in the state file does not tell: a platform that was killed leaves the file, and a reboot gives its pid to
    somebody else.
    """
    import fcntl  # here: where there is none, `import flyte` still works

    try:
        with (home() / "supervisor.lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _start() -> None:
    if importlib.util.find_spec("tarmac") is None:
        raise InitializationError(
            "ClientNotInitializedError",
            "user",
            "no platform is configured and none can be started here; set FLYTE_ENDPOINT and FLYTE_API_KEY, "
            "write a config file, or install the platform: `pip install .` in a clone of this project",
        )
    command = [sys.executable, "-m", "tarmac", "up", "--quiet"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=START_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        raise InitializationError(
            "PlatformStartError",
            "system",
            f"the platform did not start in {START_TIMEOUT:g} s; look into {home() / 'logs'}",
        ) from None
    if done.returncode != 0 and find(patience=0) is None:
        said = (done.stderr or done.stdout).strip()[-2000:] or f"exit code {done.returncode}"
        raise InitializationError("PlatformStartError", "user", f"the local platform could not be started: {said}")
