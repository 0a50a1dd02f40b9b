"""Apps that are a command: its words, its environment, and how its port becomes the unit's.

A program believes that it binds the port that its environment declares. What it really binds comes to it by every way
that programs have: `$PORT`, the variables that frameworks read, the declared port wherever its command line names it,
and for Python programs the bind shim.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

SHIM = Path(__file__).parent / "shim"

_PORT_VARIABLES = ("STREAMLIT_SERVER_PORT", "GRADIO_SERVER_PORT", "UVICORN_PORT", "FLASK_RUN_PORT", "BOKEH_PORT")
_DEFAULTS = {
    "STREAMLIT_SERVER_HEADLESS": "true",
    "STREAMLIT_SERVER_ADDRESS": "127.0.0.1",
    "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
    "GRADIO_SERVER_NAME": "127.0.0.1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "UVICORN_HOST": "127.0.0.1",
    "FLASK_RUN_HOST": "127.0.0.1",
    "PYTHONUNBUFFERED": "1",
}
_EVERYWHERE = ("0.0.0.0", "::", "[::]", "*")

# -p 8080, --port 8080, --server.port=8080, --bind 0.0.0.0:8080, --http-address :8080, -listen=…
_PORT_FLAG = re.compile(r"-[pPb]|--?([\w.-]*[-_.])?(port|bind|listen|addr|address|host)", re.ASCII)
_HOST_FLAG = re.compile(r"--?([\w.-]*[-_.])?(host|bind|ip|address|addr|listen)|-b", re.ASCII)


class BadCommand(Exception):
    """Raised when a command cannot be run as it was declared; the message says what to change."""


def variables(declared: int, real: int, given: Mapping[str, str]) -> dict[str, str]:
    """The environment for a server that declares `declared` and gets `real`, on top of `given`.

    A variable that was given is kept, except where it names the declared port: `PORT` is always the real one.
    """
    env = {**_DEFAULTS, **given, "PORT": str(real)}
    for name in _PORT_VARIABLES:
        if given.get(name) in (None, "", str(declared)):
            env[name] = str(real)
    return env


def shimmed(declared: int, real: int, given: Mapping[str, str]) -> dict[str, str]:
    """`given`, with what makes Python programs bind `real` where they say `declared`."""
    path = os.pathsep.join([str(SHIM), *filter(None, [given.get("PYTHONPATH")])])
    return {**given, "PYTHONPATH": path, "TARMAC_BIND": f"{declared}:{real}"}


def words(argv: Sequence[str], declared: int, real: int, env: Mapping[str, str]) -> list[str]:
    """The command line as it is executed: `$NAME` words replaced, the declared port rewritten to the real one.

    Raises BadCommand for a `$NAME` that is not set.
    """
    replaced = [_substitute(word, env) for word in argv]
    result = []
    for index, word in enumerate(replaced):
        before = replaced[index - 1] if index else ""
        result.append(_rewrite(word, before, index, str(declared), str(real)))
    return result


def _substitute(word: str, env: Mapping[str, str]) -> str:
    match = re.fullmatch(r"\$(?:(\w+)|\{(\w+)\})", word, re.ASCII)
    if match is None:
        return word
    name = match[1] or match[2]
    if name not in env:
        raise BadCommand(f"the command names ${name}, which is not set: add it to env_vars, secrets or parameters")
    return env[name]


def _rewrite(word: str, before: str, index: int, declared: str, real: str) -> str:
    flag, equals, value = word.partition("=")
    if equals and _PORT_FLAG.fullmatch(flag):
        return f"{flag}={_bound(value, declared, real, host=bool(_HOST_FLAG.fullmatch(flag)))}"
    if _PORT_FLAG.fullmatch(before):
        return _bound(word, declared, real, host=bool(_HOST_FLAG.fullmatch(before)))
    if word == f"-p{declared}":
        return f"-p{real}"
    if index == 0 or before.startswith("-") or word.startswith("-"):
        return word
    return _bound(word, declared, real, host=False)  # `http.server 8080`, `runserver 0.0.0.0:8080`


def _bound(value: str, declared: str, real: str, host: bool) -> str:
    """What to bind in place of `value`: `8080`, `host:8080` or, where `host` says so, a host alone."""
    if value == declared:
        return real
    if host and value in _EVERYWHERE:
        return "127.0.0.1"
    address, colon, port = value.rpartition(":")
    if colon and port == declared and "/" not in address:
        return f"{'127.0.0.1' if address in _EVERYWHERE else address}:{real}"
    return value


def find(program: str, env: Mapping[str, str]) -> str:
    """The program's path. Raises BadCommand where there is none."""
    path = shutil.which(program, path=env.get("PATH"))
    if path is None:
        raise BadCommand(
            f"there is no program {program!r} on PATH nor beside {sys.executable}; where a package brings it, add that "
            "to the environment's image"
        )
    return path


def execute(argv: Sequence[str], declared: int, real: int) -> NoReturn:
    """Become the command. Console scripts of this interpreter's environment are found first. Raises BadCommand."""
    env = shimmed(declared, real, variables(declared, real, os.environ))
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
    line = words(argv, declared, real, env)
    if not line:
        raise BadCommand("the app has neither a command nor args: there is nothing to run")
    os.execve(find(line[0], env), line, env)
