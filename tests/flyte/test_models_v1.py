"""Models of pydantic 1 travel as their own JSON, or are refused by their name."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Any

import pytest
from pydantic.v1 import BaseModel, Field, PrivateAttr, SecretStr, validator

from flyte._values import decode, encode, schema
from flyte.errors import InvalidInputError


class Color(enum.Enum):
    RED = "red"


class Point(BaseModel):
    x: int
    y: float = 0.5


class Path(BaseModel):
    points: list[Point]
    at: dt.datetime
    color: Color = Color.RED
    data: dict[str, Any] = {}
    named: str = Field("n", alias="called")


class Login(BaseModel):
    password: SecretStr


class Counted(BaseModel):
    number: int

    @validator("number")
    def more(cls, value: int) -> int:
        return value + 1


class Loose(BaseModel):
    anything: Any
    _own: int = PrivateAttr(0)


def test_a_model_comes_back_as_it_was() -> None:
    path = Path(points=[Point(x=1), Point(x=2, y=3)], at=dt.datetime(2026, 1, 1), data={"a": [1]}, called="c")
    assert decode(encode(path, Path), Path) == path
    assert decode(encode([Point(x=1)], list[Point]), list[Point]) == [Point(x=1)]


def test_its_rules_decide_what_fits() -> None:
    with pytest.raises(InvalidInputError, match="Point"):
        decode(b'{"x": "no number"}', Point)
    assert schema(Path)["properties"]["points"]["type"] == "array"


@pytest.mark.parametrize("model", [Login(password=SecretStr("secret")), Counted(number=1), Loose(anything={1, 2})])
def test_a_model_that_would_not_arrive_as_it_was_is_refused_by_its_name(model: BaseModel) -> None:
    with pytest.raises(InvalidInputError, match=type(model).__name__):
        encode(model, type(model))
