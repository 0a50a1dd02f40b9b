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


OWN_TYPES = """
import flyte
from flyteidl2.core.literals_pb2 import Literal, Primitive, Scalar
from flyteidl2.core.types_pb2 import LiteralType, SimpleType
from flyte.types import TypeEngine, TypeTransformer, TypeTransformerFailedError

env = flyte.TaskEnvironment(name="climate")


class Celsius:
    def __init__(self, degrees):
        self.degrees = degrees


class CelsiusTransformer(TypeTransformer[Celsius]):
    def __init__(self):
        super().__init__("Celsius", Celsius)

    def get_literal_type(self, t):
        return LiteralType(simple=SimpleType.FLOAT)

    async def to_literal(self, python_val, python_type, expected):
        return Literal(scalar=Scalar(primitive=Primitive(float_value=python_val.degrees)))

    async def to_python_value(self, lv, expected_python_type):
        if lv.scalar.primitive.float_value < -273.15:
            raise TypeTransformerFailedError("that is colder than possible")
        return Celsius(lv.scalar.primitive.float_value)


TypeEngine.register(CelsiusTransformer())


@env.task
def warmer(now: Celsius, by: float) -> Celsius:
    return Celsius(now.degrees + by)


@env.task
def week(now: Celsius) -> list[Celsius]:
    return [warmer.override(short_name="day")(now, 1.0), now]


def wrap(task):
    former = task.execute

    async def execute(*args, **kwargs):
        return "wrapped " + await former(*args, **kwargs)

    task.execute = execute
    return task


@wrap
@env.task
def short() -> str:
    return "function"


@env.task(max_inline_io_bytes=100)
async def small(text: str = "") -> str:
    return text + "x" * 80


@env.task
async def main(now: Celsius) -> list[str]:
    said = [type(one).__name__ + str(one.degrees) for one in await week.aio(now)]
    said.append(await short.aio())
    for text in ("y" * 200, "y" * 60):
        try:
            await small(text)
        except flyte.errors.InlineIOMaxBytesBreached as error:
            said.append(str(error))
    return said
"""


def test_a_programs_own_types_and_limits_hold_on_a_platform(platform: Platform) -> None:
    program = platform.write("climate.py", OWN_TYPES)
    done = platform.cli("run", program, "main", "--now", "20")
    assert done.code == 0, done.both
    said = json.loads(done.out.splitlines()[-1])
    assert said[:3] == ["Celsius21.0", "Celsius20.0", "wrapped function"]
    assert said[3].startswith("the inputs of climate.small are 211 bytes, and the task allows 100")
    assert said[4].startswith("the outputs of climate.small are 144 bytes, and the task allows 100")
    refused = platform.cli("run", program, "main", "--now", "-300")
    assert refused.code == 2
    assert "input 'now' of climate.main must be Celsius: that is colder than possible" in refused.err
