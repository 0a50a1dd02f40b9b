"""What is hard to say in JSON goes through a platform: into a run, into its children, and back to who started it."""

from __future__ import annotations

import json

import httpx

from tests.platform_fixture import Platform

PROGRAM = """
import datetime as dt
import json
import math
from pydantic import BaseModel, ConfigDict, Field, SecretStr

import flyte

env = flyte.TaskEnvironment(name="values")


class Login(BaseModel):
    user: str = Field(serialization_alias="userName")
    password: SecretStr
    note: str = Field(default="", exclude=True)


class Data(BaseModel):
    model_config = ConfigDict(extra="forbid")
    data: bytes
    ratio: float


@env.task
async def child(login: Login, data: Data, number: float, either: dt.datetime | str) -> str:
    return f"{login.password.get_secret_value()} {login.note} {data.data!r} {data.ratio} {number} {either!r}"


@env.task
async def parent(login: Login, data: Data, number: float, either: dt.datetime | str) -> tuple[str, Login, Data, float]:
    return await child(login, data, number, either), login, data, number


if __name__ == "__main__":
    flyte.init_from_config()
    given = (Login(user="u", password="s3cret", note="n"), Data(data=b"\\xff", ratio=math.inf), math.nan)
    run = flyte.run(parent, *given, "2026-01-02T00:00:00+00:00")
    run.wait(quiet=True)
    run.raise_for_status()
    said, login, data, number = run.outputs()
    print(json.dumps([said, (login, data) == given[:2], login.note, str(number)]))
"""


def test_models_and_numbers_go_through_a_platform_as_they_are(platform: Platform) -> None:
    done = platform.python(platform.write("hard_values.py", PROGRAM))
    assert done.code == 0, done.both
    said = r"s3cret n b'\xff' inf nan '2026-01-02T00:00:00+00:00'"
    assert json.loads(done.out) == [said, True, "n", "nan"]


CONSTRAINED = """
from typing import Annotated

from pydantic import Field

import flyte

env = flyte.TaskEnvironment(name="orders")


@env.task
async def order(number: Annotated[int, Field(gt=0)], code: Annotated[str, Field(pattern="^[A-Z]+$")] = "A") -> str:
    return code * number
"""


def test_what_an_annotation_demands_is_kept_by_the_platform_and_by_the_worker(platform: Platform) -> None:
    program = platform.write("orders.py", CONSTRAINED)
    done = platform.cli("deploy", program, "env")
    assert done.code == 0, done.both
    with platform.client() as http:

        def start(**inputs: object) -> httpx.Response:
            return http.post("/v1/runs?wait=30", json={"task": "orders.order", "inputs": inputs})

        refused = start(number=0)
        assert refused.status_code == 422
        assert refused.json()["error"]["message"] == "input 'number' of orders.order is 0, which must be more than 0"
        assert start(number=2, code="B").json()["outputs"] == ["BB"]
        failed = start(number=1, code="b").json()
        assert failed["phase"] == "failed"
        assert "input 'code' of orders.order must be text that matches '^[A-Z]+$'" in failed["error"]["message"]
