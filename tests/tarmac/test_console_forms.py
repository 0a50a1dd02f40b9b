"""The form that starts a task: a control for each schema, and what was typed as the JSON that the task takes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from flyte.wire import InputSpec, InterfaceSpec
from tarmac.console import forms, tree
from tarmac.console.tree import Unfolded

NULLABLE_INT = {"anyOf": [{"type": "integer"}, {"type": "null"}]}
POINT = {"$ref": "#/$defs/Point", "$defs": {"Point": {"type": "object", "properties": {"x": {"type": "integer"}}}}}
COLOUR = {"$ref": "#/$defs/Colour", "$defs": {"Colour": {"enum": ["RED", "BLUE"]}}}
LOOP = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}}


def interface(schema: dict[str, Any], *, default: bytes | None = None) -> InterfaceSpec:
    given = {} if default is None else {"required": False, "default": msgspec.Raw(default)}
    return InterfaceSpec(inputs=[InputSpec(name="x", schema=schema, **given)])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "integer"}, "integer"),
        ({"type": "number"}, "number"),
        ({"type": "boolean"}, "boolean"),
        ({"type": "string"}, "text"),
        ({"type": "string", "format": "date"}, "date"),
        ({"type": "string", "format": "date-time"}, "text"),
        ({"enum": ["a", 1]}, "choice"),
        ({"const": 3}, "choice"),
        ({"type": "array", "items": {"type": "integer"}}, "json"),
        ({"type": "object"}, "json"),
        ({}, "json"),
        (NULLABLE_INT, "integer"),
        ({"type": ["integer", "null"]}, "integer"),
        ({"type": ["integer", "string"]}, "json"),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "json"),
        (POINT, "json"),
        (COLOUR, "choice"),
        (LOOP, "json"),
        ({"$ref": "#/nowhere"}, "json"),
    ],
)
def test_each_schema_gets_the_control_that_shows_it(schema: dict[str, Any], kind: str) -> None:
    (field,) = forms.fields(interface(schema))
    assert field.kind == kind


@pytest.mark.parametrize(
    ("schema", "typed", "sent"),
    [
        ({"type": "integer"}, " 41 ", "41"),
        ({"type": "integer"}, "-7", "-7"),
        ({"type": "integer"}, "9" * 40, "9" * 40),
        ({"type": "number"}, "1.5", "1.5"),
        ({"type": "number"}, "3", "3"),
        ({"type": "boolean"}, "true", "true"),
        ({"type": "string"}, ' "quoted" \\ <b> ', '" \\"quoted\\" \\\\ <b> "'),
        ({"type": "string"}, "", '""'),
        ({"type": "string", "format": "date"}, "2026-01-31", '"2026-01-31"'),
        ({"enum": ["a", 1]}, '"a"', '"a"'),
        ({"type": "array"}, "[1, 2]", "[1, 2]"),
        ({"type": "object"}, '{"a": {"b": null}}', '{"a": {"b": null}}'),
        (NULLABLE_INT, "", "null"),
        (NULLABLE_INT, "null", "null"),
        (NULLABLE_INT, "3", "3"),
    ],
)
def test_what_is_typed_becomes_json(schema: dict[str, Any], typed: str, sent: str) -> None:
    assert forms.inputs(interface(schema), {"x": typed}).decode() == f'{{"x":{sent}}}'


@pytest.mark.parametrize(
    ("schema", "typed", "words"),
    [
        ({"type": "integer"}, "1.5", "x is not a whole number"),
        ({"type": "integer"}, "", "x is needed"),
        ({"type": "number"}, "much", "x is not a number"),
        ({"type": "object"}, "{", "x is not JSON"),
        ({"enum": ["a"]}, "", "x is needed"),
    ],
)
def test_what_cannot_be_read_is_said_and_kept(schema: dict[str, Any], typed: str, words: str) -> None:
    with pytest.raises(forms.FormErrors) as refused:
        forms.inputs(interface(schema), {"x": typed})
    (field,) = refused.value.fields
    assert f"x {field.error}".startswith(words)
    assert field.text == typed


def test_what_is_left_empty_is_left_to_the_default() -> None:
    with_default = interface({"type": "integer"}, default=b"7")
    (field,) = forms.fields(with_default)
    assert (field.text, field.required) == ("7", False)
    assert forms.inputs(with_default, {"x": ""}) == b"{}"
    assert forms.inputs(with_default, {}) == b"{}"


@pytest.mark.parametrize(
    ("schema", "value", "text"),
    [
        ({"type": "string"}, "a\nb", "a\nb"),
        ({"type": "integer"}, 41, "41"),
        ({"type": "boolean"}, False, "false"),
        ({"enum": ["a"]}, "a", '"a"'),
        (NULLABLE_INT, None, ""),
        ({"type": "array"}, [1], "[\n  1\n]"),
    ],
)
def test_the_inputs_of_an_earlier_run_stand_in_the_form_and_mean_the_same(
    schema: dict[str, Any], value: Any, text: str
) -> None:
    (field,) = forms.fields(interface(schema), {"x": value})
    assert field.text == text
    assert msgspec.json.decode(forms.inputs(interface(schema), {"x": text})) == {"x": value}


# ------------------------------------------------------------------------------------------------------------- tree


@pytest.mark.parametrize("text", ["", ",", "a0", "a0~2,b", "b~1"])
def test_what_is_unfolded_survives_the_address(text: str) -> None:
    assert Unfolded.read(Unfolded.read(text).written()) == Unfolded.read(text)


def test_nothing_said_is_the_roots_children_and_nonsense_is_harmless() -> None:
    assert Unfolded.read(None).pages == {"a0": 0}
    assert Unfolded.read("a0~x,~3,b~-1").pages == {"a0": 0, "b": 0}
    assert len(Unfolded.read(",".join(f"a{n}" for n in range(1000))).pages) == tree.MOST_OPEN


def test_folding_and_turning_pages_change_one_action_alone() -> None:
    unfolded = Unfolded.read("a0~2,b")
    assert unfolded.toggled("b") == "a0~2"
    assert unfolded.toggled("c") == "a0~2,b,c"
    assert unfolded.turned("a0", 3) == "a0~3,b"
