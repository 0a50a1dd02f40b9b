"""What an annotation demands besides a type is in the schema, and is kept wherever a value comes in or goes out."""

from __future__ import annotations

import datetime as dt
import decimal
import json
from typing import Annotated, Any

import annotated_types as at
import msgspec
import pydantic
import pytest

import flyte
from flyte._declare.interface import interface_of
from flyte._local.client import LocalClient
from flyte._values import from_json, schema, to_json
from flyte.errors import InvalidInputError, RuntimeDataValidationError
from flyte.wire import ActionPhase
from tarmac.inputs import check

Positive = Annotated[int, pydantic.Field(gt=0)]
NotNegative = Annotated[decimal.Decimal, at.Ge(0)]

CASES: list[tuple[Any, Any, Any, dict[str, Any], str]] = [
    (Positive, 1, 0, {"exclusiveMinimum": 0}, "more than 0, not 0 (int)"),
    (pydantic.PositiveInt, 1, -1, {"exclusiveMinimum": 0}, "more than 0, not -1 (int)"),
    (Annotated[int, at.Interval(ge=1, lt=3)], 2, 3, {"minimum": 1, "exclusiveMaximum": 3}, "less than 3, not 3 (int)"),
    (
        Annotated[float, msgspec.Meta(ge=0, le=1.5)],
        1.5,
        2.0,
        {"minimum": 0, "maximum": 1.5},
        "at most 1.5, not 2.0 (float)",
    ),
    (Annotated[float, at.MultipleOf(0.1)], 0.3, 0.25, {"multipleOf": 0.1}, "a multiple of 0.1, not 0.25 (float)"),
    (Annotated[float, at.Gt(0)], 1.0, float("nan"), {"exclusiveMinimum": 0}, "more than 0, not nan (float)"),
    (
        Annotated[str, pydantic.StringConstraints(min_length=2, pattern="^a")],
        "ab",
        "ba",
        {"minLength": 2, "pattern": "^a"},
        "text that matches '^a', not 'ba' (str)",
    ),
    (Annotated[str, msgspec.Meta(max_length=2)], "ab", "abc", {"maxLength": 2}, "at most 2 long, not 'abc' (str)"),
    (Annotated[list[int], at.Len(1, 2)], [1], [], {"minItems": 1, "maxItems": 2}, "at least 1 long, not [] (list)"),
    (Annotated[dict[str, int], at.MinLen(1)], {"a": 1}, {}, {"minProperties": 1}, "at least 1 long, not {} (dict)"),
    (Annotated[Positive | None, "help"], None, 0, {}, "more than 0, not 0 (int)"),
    (Annotated[int | None, at.Gt(0)], None, 0, {"exclusiveMinimum": 0}, "more than 0, not 0 (int)"),
    (Annotated[set[int], at.MaxLen(2)], {1, 2}, {1, 2, 3}, {}, "at most 2 long, not {1, 2, 3} (set)"),
    (Annotated[bytes, at.MaxLen(2)], b"ab", b"abc", {}, "at most 2 long, not b'abc' (bytes)"),
    (NotNegative, decimal.Decimal(0), decimal.Decimal(-1), {}, "at least 0, not Decimal('-1') (Decimal)"),
    (
        Annotated[dt.date, at.Gt(dt.date(2026, 1, 1))],
        dt.date(2026, 1, 2),
        dt.date(2026, 1, 1),
        {},
        "more than 2026-01-01, not datetime.date(2026, 1, 1) (date)",
    ),
    (Annotated[int, at.Predicate(bool)], 1, 0, {}, "accepted by bool, not 0 (int)"),
]


@pytest.mark.parametrize(("annotation", "good", "bad", "words", "sentence"), CASES)
def test_a_constraint_is_kept_both_ways(annotation: Any, good: Any, bad: Any, words: Any, sentence: str) -> None:
    assert from_json(to_json(good, annotation), annotation) == good
    with pytest.raises(InvalidInputError) as refused:
        to_json(bad, annotation)
    assert str(refused.value) == f"the value must be {sentence}"
    plain = to_json(bad, type(bad))
    with pytest.raises(InvalidInputError, match="the value must be "):
        from_json(plain, annotation)
    assert schema(annotation).items() >= words.items()


def test_inside_of_others_the_message_says_where() -> None:
    with pytest.raises(InvalidInputError, match=r"the value\['a'\]\[1\] must be more than 0, not 0"):
        to_json({"a": [1, 0]}, dict[str, list[Positive]])
    with pytest.raises(InvalidInputError, match=r"the value\[key ''\] must be at least 1 long"):
        to_json({"": 1}, dict[Annotated[str, at.MinLen(1)], int])
    assert schema(dict[Annotated[str, at.MinLen(1)], int])["type"] == "object"


def test_metadata_of_others_demands_nothing() -> None:
    class Mark:
        gt = 5
        pattern = "("

    assert to_json(1, Annotated[int, Mark(), "words", 3]) == 1


def test_a_description_is_the_inputs_help() -> None:
    def task(x: Annotated[int, pydantic.Field(gt=0, description="how many")]) -> None: ...

    assert interface_of(task, "task").inputs["x"].help == "how many"


env = flyte.TaskEnvironment("constrained")


@env.task
async def take(n: Positive, words: Annotated[list[str], at.MaxLen(2)] = []) -> Positive:  # noqa: B006
    return n - 1


@env.task
async def give(n: int) -> int:
    return await take(n)


def test_the_platform_refuses_a_call_before_there_is_a_run() -> None:
    interface = take.interface.spec()
    check("t", interface, b'{"n": 1, "words": ["a", "b"]}')
    for inputs, sentence in (
        (b'{"n": 0}', "input 'n' of t is 0, which must be more than 0"),
        (
            b'{"n": 1, "words": ["a", "b", "c"]}',
            'input \'words\' of t is ["a","b","c"], which must have at most 2 items',
        ),
    ):
        with pytest.raises(InvalidInputError) as refused:
            check("t", interface, inputs)
        assert str(refused.value) == sentence


async def test_local_mode_keeps_them_too() -> None:
    client = LocalClient()
    with pytest.raises(InvalidInputError, match=r"input 'n' of constrained\.take must be more than 0, not 0"):
        await client.create_local(take, {"n": 0})
    run = await client.get_run((await client.create_local(take, {"n": 2})).name, wait=20)
    assert json.loads(bytes(run.outputs or b"")) == [1]
    for task, code in ((take, RuntimeDataValidationError("").code), (give, InvalidInputError("").code)):
        failed = await client.get_run((await client.create_local(task, {"n": 1 if task is take else 0})).name, wait=20)
        assert failed.phase is ActionPhase.FAILED
        assert failed.error is not None
        assert failed.error.code == code
        assert "must be more than 0, not 0" in failed.error.message
