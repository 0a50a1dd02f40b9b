"""A function's signature becomes an interface: bound, checked, described."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Annotated, Any, NamedTuple

import msgspec
import pytest

from flyte._declare.interface import Interface, interface_of, without_sections
from flyte.errors import InvalidInputError, RuntimeDataValidationError


@dataclasses.dataclass
class Config:
    rate: float
    name: str = "x"


class Both(NamedTuple):
    a: int
    b: str


def train(data: list[int], config: Config, epochs: int = 3, *, when: dt.date | None = None) -> tuple[float, str]:
    """Train a model.

    Args:
        data: The numbers to learn from.
        epochs (int): How often.
    """
    return 0.5, "done"


def interface(func: Any) -> Interface:
    return interface_of(func, f"env.{func.__name__}")


def test_arguments_are_bound_by_name_without_defaults() -> None:
    bound = interface(train).bind(([1], Config(1.0)), {"when": None})
    assert bound == {"data": [1], "config": Config(1.0), "when": None}


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {"data": []}, ["env.train lacks the input 'config'", "data: list[int]", "epochs: int = …"]),
        ((), {}, ["lacks the inputs 'data', 'config'"]),
        (([], Config(1)), {"epoch": 1}, ["has no input 'epoch'", "epochs: int"]),
        (([], Config(1)), {"data": []}, ["got the input 'data' twice"]),
        ((1, 2, 3, 4, 5), {}, ["5 positional inputs"]),
    ],
)
def test_a_wrong_call_is_refused_with_what_the_task_takes(args: Any, kwargs: Any, words: list[str]) -> None:
    with pytest.raises(InvalidInputError) as refused:
        interface(train).bind(args, kwargs)
    for word in words:
        assert word in str(refused.value)


def test_inputs_travel_as_json_with_their_defaults() -> None:
    found = interface(train)
    data = found.dump_inputs({"data": [1, 2], "config": Config(1)})
    assert data == {"data": [1, 2], "config": {"rate": 1.0, "name": "x"}, "epochs": 3, "when": None}
    assert found.load_inputs(data) == {"data": [1, 2], "config": Config(1.0), "epochs": 3, "when": None}


def test_a_default_without_a_json_form_is_left_to_the_function() -> None:
    marker = object()

    def task(x: Any = marker, y: int = "none") -> None: ...  # type: ignore[assignment]

    found = interface(task)
    assert found.dump_inputs({}) == {}
    assert found.load_inputs({}) == {}
    assert [spec.required for spec in found.spec().inputs] == [False, False]


def test_an_input_of_the_wrong_type_is_named_with_its_task() -> None:
    found = interface(train)
    with pytest.raises(InvalidInputError, match=r"input 'epochs' of env\.train must be int, not 'many'"):
        found.dump_inputs({"data": [], "config": Config(1), "epochs": "many"})
    with pytest.raises(InvalidInputError, match=r"input 'data' of env\.train\[1\] must be int"):
        found.load_inputs({"data": [1, "x"], "config": {"rate": 1}})
    with pytest.raises(InvalidInputError, match="lacks the input 'config'"):
        found.load_inputs({"data": []})
    with pytest.raises(InvalidInputError, match="has no input 'more'"):
        found.load_inputs({"data": [], "config": {"rate": 1}, "more": 1})


def test_a_tuple_of_fixed_length_is_several_outputs() -> None:
    found = interface(train)
    assert [output.name for output in found.outputs] == ["o0", "o1"]
    assert found.dump_outputs((1, "x")) == [1.0, "x"]
    assert found.load_result([1.0, "x"]) == (1.0, "x")
    with pytest.raises(RuntimeDataValidationError, match=r"must return tuple\[float, str\]"):
        found.dump_outputs(1.0)
    with pytest.raises(RuntimeDataValidationError, match=r"output 2 of env\.train must be str, not 3 \(int\)"):
        found.dump_outputs((1.0, 3))


def test_everything_else_is_one_output() -> None:
    def nothing() -> None: ...
    def unsaid(): ...  # type: ignore[no-untyped-def]
    def many() -> tuple[int, ...]: ...  # type: ignore[empty-body]
    def named() -> Both: ...  # type: ignore[empty-body]

    assert interface(nothing).dump_outputs(None) == [None]
    assert interface(nothing).load_result([None]) is None
    assert interface(unsaid).dump_outputs({"a": 1}) == [{"a": 1}]
    assert interface(many).dump_outputs((1, 2, 3)) == [[1, 2, 3]]
    assert interface(many).load_result([[1, 2]]) == (1, 2)
    assert interface(named).load_result(interface(named).dump_outputs(Both(1, "b"))) == Both(1, "b")


def test_outputs_of_another_version_are_told() -> None:
    with pytest.raises(RuntimeDataValidationError, match="declares 2 outputs and 1 arrived"):
        interface(train).load_result([1])


def test_the_spec_describes_inputs_for_people_and_programs() -> None:
    spec = interface(train).spec()
    data, config, epochs, when = spec.inputs
    assert (data.name, data.type, data.required, data.help) == ("data", "list[int]", True, "The numbers to learn from.")
    assert data.schema == {"type": "array", "items": {"type": "integer"}}
    assert config.schema["required"] == ["rate"]
    assert (epochs.required, bytes(epochs.default), epochs.help) == (False, b"3", "How often.")
    assert (when.type, bytes(when.default)) == ("date | None", b"null")
    assert [output.type for output in spec.outputs] == ["float", "str"]
    assert msgspec.json.decode(msgspec.json.encode(spec), type=type(spec)).inputs[2].name == "epochs"


def test_help_comes_from_annotated_and_from_sphinx_docstrings() -> None:
    def task(a: Annotated[int, "from annotated"], b: int) -> None:
        """Do.

        :param int b: from sphinx
        """

    assert [spec.help for spec in interface(task).spec().inputs] == ["from annotated", "from sphinx"]


def test_the_json_schema_covers_all_inputs() -> None:
    schema = interface(train).json_schema()
    assert schema["required"] == ["data", "config"]
    assert schema["properties"]["epochs"] == {"type": "integer", "description": "How often.", "default": 3}
    assert schema["additionalProperties"] is False


def test_positional_only_parameters_are_passed_by_position() -> None:
    def task(a: int, /, b: int) -> int:
        return a - b

    found = interface(task)
    args, kwargs = found.arguments(found.bind((5,), {"b": 3}))
    assert task(*args, **kwargs) == 2


def test_names_of_an_enclosing_function_are_found() -> None:
    @dataclasses.dataclass
    class Inner:
        x: int

    def task(inner: Inner) -> Inner:
        return Inner(inner.x)

    assert interface(task).load_inputs({"inner": {"x": 1}}) == {"inner": Inner(1)}


def test_an_annotation_that_cannot_be_found_counts_as_any_and_says_so() -> None:
    def task(x: Missing, y: int) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.warns(UserWarning, match="'Missing' of 'x' cannot be found"):
        found = interface(task)
    assert [spec.type for spec in found.spec().inputs] == ["Any", "int"]


@pytest.mark.parametrize(
    ("doc", "kept"),
    [
        ("Do one.\n\n    More.\n\n    Args:\n        i: how many\n\n    Returns:\n        one", "Do one.\n\n    More."),
        ("Do one.\n\n:param i: how many", "Do one."),
        ("Args: as ever\nhere", "Args: as ever\nhere"),
        ("", ""),
    ],
)
def test_a_command_shows_what_a_docstring_says_before_its_sections(doc: str, kept: str) -> None:
    assert without_sections(doc) == kept
