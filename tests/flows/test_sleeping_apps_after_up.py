"""When `flyte up` returns, every app is where it was, the sleeping ones too."""

from __future__ import annotations

import httpx

from tests.platform_fixture import Platform

PROGRAM = """
from fastapi import FastAPI

from flyte.app import Scaling
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()
env = FastAPIAppEnvironment(name="napper", app=app, requires_auth=False, scaling=Scaling(replicas=(0, 1)))


@app.get("/")
async def hello() -> str:
    return "awake"
"""


def test_a_sleeping_app_answers_as_soon_as_the_platform_is_up(fresh_platform: Platform) -> None:
    program = fresh_platform.write("napper.py", PROGRAM)
    done = fresh_platform.cli("deploy", program, "env", timeout=60)
    assert done.code == 0, done.both
    url = fresh_platform.app_url("napper")
    for _ in range(2):
        fresh_platform.down()
        fresh_platform.up("--port", str(url_port(fresh_platform, url)))
        with httpx.Client(trust_env=False, timeout=60) as http:
            answer = http.get(url)
        assert (answer.status_code, answer.text) == (200, '"awake"')


def url_port(platform: Platform, url: str) -> int:
    """The front door's port: apps' own ports begin 20 above it."""
    return int(url.rpartition(":")[2]) - 20
