"""`import flyte` is quiet, and a command loads only what it needs. Each promise is checked in a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SRC = Path(__file__).parent.parent / "src"

HEAVY = {
    *("aiohttp", "click", "cryptography", "fastapi", "greenlet", "httpx", "jinja2", "litestar", "psutil", "pydantic"),
    *("rich", "starlette", "tarmac", "uvicorn", "uvloop", "yaml", "asyncio", "multiprocessing", "concurrent.futures"),
}

REPORT = """
import json, os, sys, threading
hook, path, environ = sys.excepthook, list(sys.path), dict(os.environ)
{code}
print(json.dumps({{
    "modules": sorted(sys.modules),
    "threads": threading.active_count(),
    "same": sys.excepthook is hook and sys.path == path and dict(os.environ) == environ,
}}))
"""


def after(code: str, folder: Path) -> dict[str, Any]:
    """What a fresh interpreter looks like after `code`, in an empty folder that is also its HOME."""
    env = {**os.environ, "PYTHONPATH": str(SRC), "HOME": str(folder), "TARMAC_HOME": str(folder / "tarmac")}
    command = [sys.executable, "-W", "error", "-c", REPORT.format(code=code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=env, cwd=folder)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def heavy(found: dict[str, Any]) -> set[str]:
    return HEAVY & set(found["modules"])


@pytest.mark.parametrize(
    "code",
    ["import flyte", "import flyte.errors", "import flyte.wire", "import flyte, flyte.remote, flyte.app, flyte.config"],
)
def test_importing_flyte_loads_nothing_heavy(code: str, tmp_path: Path) -> None:
    assert heavy(after(code, tmp_path)) == set()


@pytest.mark.parametrize("code", ["import flyte", "import flyte.app", "import flyte.remote", "import flyte.io"])
def test_importing_flyte_starts_no_thread_and_changes_nothing(code: str, tmp_path: Path) -> None:
    found = after(code, tmp_path)
    assert found["threads"] == 1
    assert found["same"]
    assert list(tmp_path.iterdir()) == []


def test_declaring_an_environment_loads_nothing_that_talks_to_a_platform(tmp_path: Path) -> None:
    code = """
import flyte
env = flyte.TaskEnvironment(name="quiet", image=flyte.Image.from_debian_base(), resources=flyte.Resources(cpu=1))
@env.task
async def double(x: int) -> int:
    return 2 * x
"""
    found = after(code, tmp_path)
    assert {"aiohttp", "tarmac", "click", "rich", "fastapi"} & set(found["modules"]) == set()
    assert found["threads"] == 1


def test_what_programs_import_first_loads_no_messages_no_client_and_no_codecs(tmp_path: Path) -> None:
    found = after("import flyte, flyte.remote, flyte.app", tmp_path)
    ours = {name for name in found["modules"] if name.partition(".")[0] == "flyte"}
    assert ours == {"flyte", "flyte._absent", "flyte.app", "flyte.remote"}
    assert {"msgspec", "logging", "inspect", "typing_extensions", "ssl"} & set(found["modules"]) == set()


def test_runs_and_apps_are_there_without_what_only_some_programs_need(tmp_path: Path) -> None:
    found = after("import flyte.app, flyte.remote\nflyte.remote.Run\nflyte.app.AppEnvironment", tmp_path)
    assert {"aiohttp", "email", "http.client", "urllib.request", "tarfile", "tarmac"} & set(found["modules"]) == set()


@pytest.mark.parametrize("package", ["remote", "app"])
def test_every_public_name_of_a_package_is_there(package: str, tmp_path: Path) -> None:
    code = f"import flyte.{package} as package\nfor name in package.__all__: getattr(package, name)\n"
    assert after(code + "assert set(package.__all__) == set(package._PLACES)", tmp_path)["same"]


def test_every_public_name_is_there(tmp_path: Path) -> None:
    code = "import flyte\nfor name in flyte.__all__: getattr(flyte, name)"
    assert after(code, tmp_path)["same"]


def test_the_help_loads_neither_the_client_nor_the_platform(tmp_path: Path) -> None:
    code = """
import contextlib, io
from flyte.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main(["--help"])
"""
    assert heavy(after(code, tmp_path)) & {"aiohttp", "rich", "tarmac", "yaml", "pydantic", "fastapi"} == set()
