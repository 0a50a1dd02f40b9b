"""A package that is installed, or edited in its place, and a file that a module reads: the next run has what is new."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.platform_fixture import Platform, wait_for

PROGRAM = """
import sys

import flyte

sys.path.append({folder!r})
import edited_package

DATA = open({folder!r} + '/data.txt').read()
env = flyte.TaskEnvironment(name="changing")
kept = flyte.TaskEnvironment(name="changing_kept", reusable=flyte.ReusePolicy(replicas=1, idle_ttl=300))
alone = flyte.TaskEnvironment(
    name="changing_alone", env_vars={{"TARMAC_FRESH_IMPORT": "1"}}, reusable=flyte.ReusePolicy(replicas=1, idle_ttl=300)
)


@env.task
def show() -> str:
    return f"{{edited_package.VALUE}} {{DATA}}"


@kept.task
def show_kept() -> str:
    return f"{{edited_package.VALUE}} {{DATA}}"


@alone.task
def show_alone() -> str:
    return f"{{edited_package.VALUE}} {{DATA}}"


@env.task
async def parent() -> str:
    return await show_kept.aio()


if __name__ == "__main__":
    flyte.init_from_config()
    for task in (show, show_kept, show_alone, parent):
        run = flyte.run(task)
        run.wait()
        print(*run.outputs())
"""

APP = """
import sys

import flyte
from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment

sys.path.append({folder!r})
import edited_package

app = FastAPI()
env = FastAPIAppEnvironment(name="changing-app", app=app, requires_auth=False)


@app.get("/value")
def value() -> str:
    return edited_package.VALUE
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package outside of what is shipped, as one that is installed in editable mode is."""
    module = tmp_path / "edited_package.py"
    module.write_text("VALUE = 'first'\n")
    (tmp_path / "data.txt").write_text("data")
    return module


def soon(show: Callable[[], object], expected: object) -> None:
    """Within a second of the last look nobody looks again, so the first of these may be as before."""
    seen: list[object] = []

    def shown() -> bool:
        seen.append(show())
        return seen[-1] == expected

    wait_for(shown, f"{expected}", describe=lambda: f"the last was {seen[-1]}")


def test_the_next_run_has_an_edited_package_and_a_changed_file(platform: Platform, package: Path) -> None:
    """In fresh processes, in reused ones, in reused ones that import for themselves, and in those of child actions."""
    program = platform.write("prog_changing.py", PROGRAM.format(folder=str(package.parent)))

    def show() -> list[str]:
        done = platform.python(program)
        assert done.code == 0, done.both
        return done.out.splitlines()[-4:]

    assert show() == ["first data"] * 4
    package.write_text("VALUE = 'edited'\n")
    soon(show, ["edited data"] * 4)
    (package.parent / "data.txt").write_text("other data")
    soon(show, ["edited other data"] * 4)
    (package.parent / "edited_package").mkdir()
    (package.parent / "edited_package" / "__init__.py").write_text("VALUE = 'moved'\n")
    package.unlink()
    soon(show, ["moved other data"] * 4)


def test_an_app_that_is_served_again_has_an_edited_package(platform: Platform, package: Path) -> None:
    """Where nothing has changed its process goes on."""
    program = platform.write("prog_changing_app.py", APP.format(folder=str(package.parent)))

    def replicas() -> list[str]:
        with platform.client() as http:
            found = http.get("/v1/apps/changing-app").json()["replicas"]
        return [replica["name"] for replica in found if replica["phase"] == "ready"]

    def serve() -> str:
        served = platform.cli("serve", program, "env")
        assert served.code == 0, served.both
        return str(httpx.get(f"{platform.app_url('changing-app')}/value").json())

    assert serve() == "first"
    before = replicas()
    assert serve() == "first"
    assert replicas() == before
    package.write_text("VALUE = 'edited'\n")
    assert serve() == "edited"
    after = replicas()
    assert serve() == "edited"
    assert replicas() == after != before
    package.write_text("VALUE = 'edited again'\n")
    for switch in ("--deactivate", "--activate"):
        done = platform.cli("update", "app", "changing-app", switch)
        assert done.code == 0, done.both
    assert httpx.get(f"{platform.app_url('changing-app')}/value").json() == "edited again"
