"""What is hard to say in JSON goes through a platform: into a run, into its children, and back to who started it."""

from __future__ import annotations

import json

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
