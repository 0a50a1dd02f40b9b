"""When `flyte up` returns, every app is where it was, the sleeping ones too."""

from __future__ import annotations

import httpx

from tests import ports
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


def test_a_sleeping_app_answers_as_soon_as_the_platform_is_up(empty_place: Platform) -> None:
    program = empty_place.write("napper.py", PROGRAM)
    with ports.block() as block:  # an app keeps its address, so nobody else may take the platform's ports meanwhile
        empty_place.up("--port", str(block.start))
        done = empty_place.cli("deploy", program, "env", timeout=60)
        assert done.code == 0, done.both
        url = empty_place.app_url("napper")
        for _ in range(2):
            empty_place.down()
            empty_place.up("--port", str(block.start))
            with httpx.Client(trust_env=False, timeout=60) as http:
                answer = http.get(url)
            assert (answer.status_code, answer.text) == (200, '"awake"')
        empty_place.down()
