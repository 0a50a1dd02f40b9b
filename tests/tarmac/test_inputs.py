"""Inputs are checked against what a task declares, where a run is created."""

from __future__ import annotations

import json
from typing import Any

import pytest

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
        (given(x=1, words=["a", 2]), "input 'words' of env.task is [\"a\",2], not a list[str]"),
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
