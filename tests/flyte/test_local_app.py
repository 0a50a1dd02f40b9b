"""Apps in local mode: child processes that answer, in order, and end with their parent."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import flyte
from flyte._local import app as _local_app
from flyte.errors import DeploymentError, InvalidInputError
from tests.flyte.conftest import Project
from tests.platform_fixture import wait_for

PROGRAM = """
    import os
    from fastapi import FastAPI
    from flyte.app import AppEndpoint, AppEnvironment, Parameter
    from flyte.app.extras import FastAPIAppEnvironment

    low = AppEnvironment(name="low", args="python -m http.server 8080")
    app = FastAPI()
    top = FastAPIAppEnvironment(
        name="top",
        app=app,
        depends_on=[low],
        env_vars={"A": "declared"},
        parameters=[Parameter("low-url", value=AppEndpoint(app_name="low")), Parameter("model", value="a")],
    )

    @app.get("/")
    def home() -> dict[str, str]:
        return {name: os.environ[name] for name in ("LOW_URL", "MODEL", "A")} | {"endpoint": low.endpoint}

    broken = AppEnvironment(name="broken", args="python -c 'raise SystemExit(3)'")
"""


@pytest.fixture
def program(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(_local_app, "_served", {})
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    yield project.load(PROGRAM)
    _local_app._stop_all()


def _get(url: str) -> Any:
    import json

    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


def test_an_app_and_what_it_needs_are_served_each_at_an_address_of_its_own(program: Any) -> None:
    app = flyte.with_servecontext(mode="local", parameter_values={"top": {"model": "b"}}).serve(program.top)
    assert app.is_active()
    assert app.endpoint != program.low.endpoint
    low = program.low.endpoint
    assert _get(app.endpoint) == {"LOW_URL": low, "MODEL": "b", "A": "declared", "endpoint": low}
    with urllib.request.urlopen(low, timeout=10) as answer:
        assert b"program.py" in answer.read()
    assert program.top.endpoint == app.endpoint
    app.deactivate()
    assert app.is_deactivated()
    with app.ephemeral_ctx_sync() as again:
        assert again.endpoint == app.endpoint
        assert _get(again.endpoint)["MODEL"] == "b"
    assert app.is_deactivated()


def test_an_app_that_ends_at_once_says_so(program: Any) -> None:
    with pytest.raises(DeploymentError, match="the app broken ended with exit code 3"):
        flyte.serve(program.broken)


def test_the_address_of_an_app_that_is_not_served_is_refused(program: Any) -> None:
    program.top.depends_on.clear()
    with pytest.raises(InvalidInputError, match="is the address of 'low'; serve that first"):
        flyte.serve(program.top)


_SCRIPT = """
import os, pathlib, sys
sys.path.insert(0, os.getcwd())
import flyte
import program
app = flyte.serve(program.low)
print(app.endpoint, app._process.pid, flush=True)
os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_an_app_ends_with_the_program_that_serves_it(program: Any) -> None:
    source = str(Path(flyte.__file__).parents[1])
    environ = {"PYTHONPATH": source, "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, timeout=60, env=environ)
    endpoint, pid = done.stdout.split()
    assert endpoint.startswith("http://127.0.0.1:")
    wait_for(lambda: not _is_alive(int(pid)), "the app has ended")
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(endpoint, timeout=5)


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
