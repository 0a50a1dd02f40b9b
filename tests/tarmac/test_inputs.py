"""Inputs are checked against what a task declares, where a run is created."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import uuid
from typing import Any

import pytest

from flyte._values import schema as schema_of
from flyte.errors import InvalidInputError
from flyte.wire import InputSpec, InterfaceSpec
from tarmac.inputs import check, fits

X = InputSpec(name="x", schema={"type": "integer"}, type="int")
WORDS = InputSpec(name="words", schema={"type": "array", "items": {"type": "string"}}, type="list[str]", required=False)
INTERFACE = InterfaceSpec(inputs=[X, WORDS])


def given(**inputs: Any) -> bytes:
    return json.dumps(inputs).encode()


def test_inputs_that_fit_are_accepted() -> None:
    check("env.task", INTERFACE, given(x=1))
    check("env.task", INTERFACE, given(x=1.0, words=["a"]))


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        (given(), "env.task needs 'x'; its inputs are: x: int, words: list[str] (optional)"),
        (given(x=1, y=2), "env.task takes no 'y'; its inputs are: x: int, words: list[str] (optional)"),
        (given(x="one"), "input 'x' of env.task is \"one\", not an int"),
        (given(x=True), "input 'x' of env.task is true, not an int"),
        (given(x=1.5), "input 'x' of env.task is 1.5, not an int"),
        (given(x=1, words=["a", 2]), "input 'words[1]' of env.task is 2, not a str"),
        (b"[1]", "the inputs of env.task are [1], not a JSON object of name → value"),
        (b"{", "the inputs of env.task are not JSON: Input data was truncated"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_with_a_sentence(inputs: bytes, sentence: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        check("env.task", INTERFACE, inputs)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, [1, None], ["a"]),
        ({"enum": ["red", "blue"]}, ["red"], ["green"]),
        ({"enum": [1, 2], "x-names": ["LOW", "HIGH"]}, [1, "LOW"], [3, "low"]),
        ({"const": 3}, [3], [4]),
        ({"type": "number"}, [1, 1.5], [True, "1"]),
        ({"type": ["string", "null"]}, ["a", None], [1]),
        ({"prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False}, [[1, "a"]], [["a"], [1, "a", 2]]),
        ({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}, [{"a": "b"}], [{}, {"a": 1}]),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, [{"k": 1}], [{"k": "v"}]),
        ({"$ref": "#/$defs/N", "$defs": {"N": {"type": "integer"}}}, [1], ["a"]),
        ({"allOf": [{"type": "integer"}, {"enum": [1, 2]}]}, [1], [3]),
        ({}, [1, "a", None, []], []),
    ],
)
def test_a_schema_tells_what_fits(schema: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    assert [fits(value, schema, schema) for value in good] == [True] * len(good)
    assert [fits(value, schema, schema) for value in bad] == [False] * len(bad)


ORDER = {
    "type": "object",
    "required": ["id"],
    "properties": {"id": {"type": "integer"}, "qty": {"type": "integer", "exclusiveMinimum": 0, "maximum": 10}},
}


@pytest.mark.parametrize(
    ("schema", "value", "sentence"),
    [
        ({"type": "array", "items": ORDER}, [{"id": "x"}], "input 'x[0].id' of t is \"x\", not an int"),
        ({"type": "array", "items": ORDER}, [{"id": 1}, {}], "input 'x[1]' of t is {}, which lacks 'id'"),
        (ORDER, {"id": 1, "qty": 0}, "input 'x.qty' of t is 0, which must be more than 0"),
        (ORDER, {"id": 1, "qty": 11}, "input 'x.qty' of t is 11, which must be at most 10"),
        ({"type": "string", "maxLength": 2}, "abc", "input 'x' of t is \"abc\", which must have at most 2 characters"),
        ({"type": "integer", "multipleOf": 5}, 7, "input 'x' of t is 7, which must be a multiple of 5"),
        ({"type": "number", "multipleOf": 0.1}, 0.25, "input 'x' of t is 0.25, which must be a multiple of 0.1"),
        ({"type": "object", "minProperties": 1}, {}, "input 'x' of t is {}, which must have at least 1 entries"),
        (
            {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]},
            "yesterday",
            "input 'x' of t is \"yesterday\", not a datetime (ISO text, such as 2026-01-31T12:00:00Z)",
        ),
    ],
)
def test_a_refusal_names_the_part_that_does_not_fit(schema: dict[str, Any], value: Any, sentence: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        check("t", InterfaceSpec(inputs=[InputSpec(name="x", schema=schema)]), given(x=value))
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (dt.datetime, ["2026-01-31T12:00:00Z", "2026-01-31"], ["yesterday", 1_760_000_000, "2026-13-01T00:00:00"]),
        (dt.date, ["2026-01-31", "2026-01-31T00:00:00"], ["2026-13-01", "soon"]),
        (dt.time, ["12:30:00"], ["noon"]),
        (dt.timedelta, ["PT1H30M", "1h30m", "-P1DT2.5S", 30, 1.5], ["soon", ""]),
        (decimal.Decimal, ["1.5", "NaN", 1.5], ["abc"]),
        (uuid.UUID, ["12345678-1234-5678-1234-567812345678"], ["xyz", "5"]),
        (bytes, ["AAA=", ""], ["!!", "5"]),
    ],
)
def test_text_that_stands_for_something_is_read(annotation: Any, good: list[Any], bad: list[Any]) -> None:
    schema = schema_of(annotation)
    assert [value for value in good if not fits(value, schema, schema)] == []
    assert [value for value in bad if fits(value, schema, schema)] == []


def doubling(levels: int) -> dict[str, Any]:
    """A schema that takes 2 ** levels steps."""
    defs: dict[str, Any] = {f"l{n}": {"anyOf": [{"$ref": f"#/$defs/l{n + 1}"}] * 2} for n in range(levels)}
    return {"$ref": "#/$defs/l0", "$defs": {**defs, f"l{levels}": {"type": "integer"}}}


@pytest.mark.parametrize(
    "schema",
    [
        doubling(60),
        {"$ref": "#"},
        {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}},
        {"$ref": "#/$defs/A", "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/A"}]}}},
        {"type": 7},
        {"$ref": 7},
        {"enum": 7, "anyOf": {}, "allOf": "x", "properties": [], "required": 3, "prefixItems": 1, "items": 5},
        {"multipleOf": 0, "minProperties": "x"},
        {"multipleOf": True},
        {"multipleOf": float("nan")},
        {"format": [], "minLength": "x", "maxLength": None, "minimum": "a", "type": [{}, 7, None]},
        {"pattern": "(a+)+$"},
    ],
)
@pytest.mark.parametrize("value", ["a" * 50 + "b", 1, None, [1], {"a": 1}])
def test_a_schema_that_makes_no_sense_or_takes_too_long_is_left_to_the_worker(schema: Any, value: Any) -> None:
    assert fits(value, schema, schema)
    check("t", InterfaceSpec(inputs=[InputSpec(name="x", schema=schema)]), given(x=value))


def test_inputs_that_are_nested_too_deeply_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="not JSON"):
        check("t", INTERFACE, b'{"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}")
