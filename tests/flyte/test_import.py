"""`import flyte` is quiet: it loads nothing heavy, starts nothing, changes nothing; and its names are all there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flyte

HEAVY = [
    "aiohttp",
    "click",
    "fastapi",
    "greenlet",
    "httpx",
    "numpy",
    "pandas",
    "psutil",
    "pydantic",
    "rich",
    "starlette",
    "uvicorn",
    "uvloop",
    "yaml",
    "tarmac",
    "concurrent.futures.process",
    "multiprocessing",
]

LOOK = """
import builtins, io, json, os, signal, socket, sys, threading
hook, opened, stdout = sys.excepthook, [], sys.stdout
path, environ, handlers = list(sys.path), dict(os.environ), signal.getsignal(signal.SIGINT)
original = socket.socket.connect
{code}
print(json.dumps({{
    "modules": sorted(sys.modules),
    "threads": threading.active_count(),
    "unchanged": sys.excepthook is hook and sys.stdout is stdout and sys.path == path
        and dict(os.environ) == environ and signal.getsignal(signal.SIGINT) is handlers
        and socket.socket.connect is original,
}}))
"""

DECLARE = """
import flyte, flyte.app, flyte.errors, flyte.io
env = flyte.TaskEnvironment("env", resources=flyte.Resources(cpu=1), secrets=flyte.Secret("a"))
@env.task
async def task(x: int, y: dict[str, float]) -> list[str]: return []
task.interface
app = flyte.app.AppEnvironment("app", args="serve", parameters=[flyte.app.Parameter(name="p", value="v")])
"""


def look(code: str) -> Any:
    source = Path(flyte.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", LOOK.format(code=code)],
        env={"PYTHONPATH": str(source), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.parametrize("code", ["import flyte", DECLARE], ids=["import", "declare"])
def test_it_loads_nothing_heavy_and_changes_nothing(code: str) -> None:
    seen = look(code)
    assert [name for name in HEAVY if name in seen["modules"]] == []
    assert seen["threads"] == 1
    assert seen["unchanged"]


def test_importing_alone_does_not_even_load_asyncio() -> None:
    modules = look("import flyte, flyte.remote, flyte.app")["modules"]
    assert {"asyncio", "msgspec", "flyte.wire"} & set(modules) == set()


def test_the_platforms_three_modules_are_light() -> None:
    modules = look("import flyte.wire, flyte.errors, flyte.rules")["modules"]
    ours = {"flyte", "flyte.wire", "flyte.errors", "flyte.mixture", "flyte.rules"}  # `errors` needs `mixture`
    assert {name for name in modules if name.startswith("flyte") and not name.startswith("flyte.wire.")} == ours


def test_submodules_are_there_without_importing_them() -> None:
    assert look("import flyte; flyte.app.AppEnvironment; flyte.errors.NotFoundError; flyte.io.File; flyte.report.log")


def test_every_public_name_is_there() -> None:
    for name in flyte.__all__:
        assert getattr(flyte, name) is not None, name


def test_all_and_dir_agree() -> None:
    public = {name for name in dir(flyte) if not name.startswith("_")}
    assert set(flyte.__all__) - public == set()
    assert len(set(flyte.__all__)) == len(flyte.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        flyte.nope  # noqa: B018


def test_the_version_is_told() -> None:
    assert flyte.version() == flyte.__version__


USED = """
TaskEnvironment Environment Image Resources Secret SecretRequest Cache CachePolicy CacheRequest RetryStrategy Backoff
Timeout TimeoutType ReusePolicy Trigger Cron FixedRate TriggerTime PodTemplate Documentation Link Device DeviceClass GPU
TPU Neuron AMD_GPU HABANA_GAUDI APPLE_SILICON init init_from_config init_from_api_key init_in_cluster init_passthrough
run with_runcontext rerun serve with_servecontext deploy build build_images map trace group ctx custom_context
get_custom_context current_project current_domain version is_control_plane_available AppHandle TaskTemplate
AsyncFunctionTaskTemplate logger system_logger app remote io errors report
"""


def test_names_that_flytes_programs_use_are_exported() -> None:
    assert set(USED.split()) <= set(flyte.__all__)
