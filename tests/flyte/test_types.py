"""Classes of a program's own travel as their transformers say, wherever values travel, or are refused by name."""

from __future__ import annotations

import asyncio
import dataclasses
import warnings
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from flyteidl2.core import literals_pb2, types_pb2

import flyte
from flyte._declare.interface import interface_of
from flyte._values import decode, encode, from_json, registered, schema, to_json
from flyte.errors import InvalidInputError, RestrictedTypeError
from flyte.types import FlytePickle, TypeEngine, TypeTransformer, TypeTransformerFailedError

ABSOLUTE_ZERO = -273.15


class Celsius:
    """A class that says nothing of its content: without a transformer it would be pickled."""

    def __init__(self, degrees: float) -> None:
        if degrees < ABSOLUTE_ZERO:
            raise ValueError(f"{degrees} is colder than {ABSOLUTE_ZERO}")
        self.degrees = degrees

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Celsius) and self.degrees == other.degrees

    def __hash__(self) -> int:
        return hash(self.degrees)


class Boiling(Celsius):
    pass


class CelsiusTransformer(TypeTransformer[Celsius]):
    def __init__(self) -> None:
        super().__init__("Celsius", Celsius)

    def get_literal_type(self, t: Any) -> types_pb2.LiteralType:
        return types_pb2.LiteralType(simple=types_pb2.SimpleType.FLOAT)

    async def to_literal(self, python_val: Celsius, python_type: Any, expected: Any) -> literals_pb2.Literal:
        await asyncio.sleep(0)  # it may wait for something
        primitive = literals_pb2.Primitive(float_value=python_val.degrees)
        return literals_pb2.Literal(scalar=literals_pb2.Scalar(primitive=primitive))

    async def to_python_value(self, lv: literals_pb2.Literal, expected_python_type: Any) -> Celsius:
        try:
            return Celsius(lv.scalar.primitive.float_value)
        except ValueError as error:
            raise TypeTransformerFailedError(str(error)) from None


class Track:
    def __init__(self, *points: tuple[int, int]) -> None:
        self.points = points


class TrackTransformer(TypeTransformer[Track]):
    """Its literals are of a kind that JSON has no word for."""

    def __init__(self) -> None:
        super().__init__("Track", Track)

    def get_literal_type(self, t: Any) -> types_pb2.LiteralType:
        return types_pb2.LiteralType(simple=types_pb2.SimpleType.BINARY)

    async def to_literal(self, python_val: Track, python_type: Any, expected: Any) -> literals_pb2.Literal:
        content = bytes(number for point in python_val.points for number in point)
        return literals_pb2.Literal(
            scalar=literals_pb2.Scalar(binary=literals_pb2.Binary(value=content, tag="track")), hash="h"
        )

    async def to_python_value(self, lv: literals_pb2.Literal, expected_python_type: Any) -> Track:
        numbers = list(lv.scalar.binary.value)
        return Track(*zip(numbers[::2], numbers[1::2], strict=True))


class Deaf:
    pass


class OneWay(TypeTransformer[Deaf]):
    """Knows how to describe its class, and nothing else."""

    def __init__(self) -> None:
        super().__init__("OneWay", Deaf)

    def get_literal_type(self, t: Any) -> types_pb2.LiteralType:
        return types_pb2.LiteralType(simple=types_pb2.SimpleType.STRUCT)


@dataclasses.dataclass
class Weather:
    place: str
    now: Celsius
    coldest: Celsius | None = None


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(TypeEngine, "_REGISTRY", {})
    monkeypatch.setattr(registered, "_makers", {})
    for transformer in (CelsiusTransformer(), TrackTransformer(), OneWay()):
        TypeEngine.register(transformer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing here is pickled
        yield


@pytest.mark.parametrize(
    ("annotation", "value", "data"),
    [
        (Celsius, Celsius(20.5), 20.5),
        (Celsius, Celsius(float("inf")), "Infinity"),
        (Boiling, Boiling(100.0), 100.0),
        (list[Celsius], [Celsius(1.0), Celsius(2.0)], [1.0, 2.0]),
        (dict[str, Celsius], {"a": Celsius(1.0)}, {"a": 1.0}),
        (Celsius | None, None, None),
        (Celsius | str, Celsius(1.0), 1.0),
        (Annotated[Celsius, "of the air"], Celsius(1.0), 1.0),
        (Weather, Weather("Kiel", Celsius(4.0)), {"place": "Kiel", "now": 4.0, "coldest": None}),
    ],
)
def test_a_value_travels_as_its_transformer_says(annotation: Any, value: Any, data: Any) -> None:
    assert to_json(value, annotation) == data
    assert decode(encode(value, annotation), annotation) == value


def test_a_literal_that_is_no_plain_json_travels_whole() -> None:
    data = to_json(Track((1, 2), (3, 4)), Track)
    assert data == {"$literal": {"scalar": {"binary": {"value": "AQIDBA==", "tag": "track"}}, "hash": "h"}}
    assert from_json(data, Track).points == ((1, 2), (3, 4))


def test_the_schema_tells_what_callers_without_the_class_may_send() -> None:
    assert schema(Celsius) == {"type": "number", "title": "Celsius"}
    assert schema(Track) == {"type": "object", "title": "Track"}


def test_a_transformer_in_an_annotation_is_for_that_value_alone() -> None:
    class Fahrenheit(CelsiusTransformer):
        async def to_literal(self, python_val: Celsius, python_type: Any, expected: Any) -> literals_pb2.Literal:
            return await super().to_literal(Celsius(python_val.degrees * 9 / 5 + 32), python_type, expected)

    assert to_json(Celsius(100.0), Annotated[Celsius, Fahrenheit()]) == 212.0
    assert to_json(Celsius(100.0), Celsius) == 100.0


async def test_it_works_where_an_event_loop_runs_too() -> None:
    assert to_json(Celsius(1.0), Celsius) == 1.0
    assert from_json([1.0, 2.0], list[Celsius]) == [Celsius(1.0), Celsius(2.0)]


# --- what does not fit


async def cool(by: Celsius, track: Track | None = None) -> Celsius:
    return by


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"by": "warm"}, r"input 'by' of cool must be Celsius, not 'warm' \(str\)"),
        ({"by": -300.0}, r"input 'by' of cool must be Celsius: -300\.0 is colder than -273\.15"),
        ({"by": 1.0, "track": {"$literal": {"nonsense": 1}}}, r"input 'track' of cool must be Track \| None"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        interface_of(cool, "cool").load_inputs(given)


def test_a_transformer_that_converts_nothing_is_named() -> None:
    with pytest.raises(InvalidInputError, match="the value must be Deaf: its transformer 'OneWay' does not implement"):
        to_json(Deaf(), Deaf)


def test_a_transformer_that_fails_is_named() -> None:
    class Broken(CelsiusTransformer):
        async def to_literal(self, python_val: Celsius, python_type: Any, expected: Any) -> literals_pb2.Literal:
            raise KeyError("scale")

    with pytest.raises(InvalidInputError, match=r"Celsius: its transformer 'Celsius' failed with KeyError: 'scale'"):
        to_json(Celsius(1.0), Annotated[Celsius, Broken()])


def test_a_class_is_registered_once_and_built_in_ones_never() -> None:
    with pytest.raises(ValueError, match=r"Transformer Celsius for type .*Celsius.* is already registered"):
        TypeEngine.register(CelsiusTransformer())
    with pytest.raises(ValueError, match=r"Transformer int for type .*int.* is already registered"):
        TypeEngine.register(TypeTransformer("Number", int))


def test_values_of_a_restricted_class_are_refused_when_a_task_declares_them() -> None:
    class Connection:
        pass

    TypeEngine.register_restricted_type("Connection", Connection)
    for refused in (lambda: schema(Connection), lambda: to_json(Connection(), Connection)):
        with pytest.raises(RestrictedTypeError, match="Connection is registered as a type that must not be an input"):
            refused()


def test_a_class_that_is_registered_late_counts_from_then_on() -> None:
    class Late:
        def __init__(self, number: int) -> None:
            self.number = number

    class LateTransformer(TypeTransformer[Late]):
        def get_literal_type(self, t: Any) -> types_pb2.LiteralType:
            return types_pb2.LiteralType(simple=types_pb2.SimpleType.INTEGER)

        async def to_literal(self, python_val: Late, python_type: Any, expected: Any) -> literals_pb2.Literal:
            primitive = literals_pb2.Primitive(integer=python_val.number)
            return literals_pb2.Literal(scalar=literals_pb2.Scalar(primitive=primitive))

    assert schema(Late)["properties"] == {"$pickle": {"type": "string"}}
    TypeEngine.register(LateTransformer("Late", Late))
    assert to_json(Late(7), Late) == 7


# --- pickled on purpose


class Model:
    def __init__(self, weights: list[int]) -> None:
        self.weights = weights


@pytest.mark.parametrize("annotation", [FlytePickle, FlytePickle[Model]])
def test_a_flyte_pickle_is_pickled_without_a_warning(annotation: Any) -> None:
    assert decode(encode(Model([1, 2]), annotation), annotation).weights == [1, 2]


def test_a_flyte_pickle_of_a_class_takes_values_of_that_class() -> None:
    with pytest.raises(InvalidInputError, match=r"must be FlytePickle\[Model\] \(pickled\), not 5 \(int\)"):
        to_json(5, FlytePickle[Model])


# --- a run


env = flyte.TaskEnvironment(name="climate")


@env.task
async def warmer(now: Celsius, by: float) -> Celsius:
    return Celsius(now.degrees + by)


@env.task
async def week(now: Celsius) -> list[Celsius]:
    return [await warmer(now, day) for day in range(3)]


async def test_values_go_through_a_run_and_its_children_in_local_mode() -> None:
    run = await flyte.with_runcontext(mode="local").run.aio(week, now=Celsius(10.0))
    await run.wait.aio(quiet=True)
    assert (await run.outputs.aio())[0] == [Celsius(10.0), Celsius(11.0), Celsius(12.0)]


# --- the engine by itself, as plugins use it


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(Celsius, Celsius(3.0)), (int, 3), (str, "x"), (type(None), None), (Weather, Weather("Kiel", Celsius(1.0)))],
)
async def test_the_engine_converts_values_of_every_class(annotation: Any, value: Any) -> None:
    expected = TypeEngine.to_literal_type(annotation)
    literal = await TypeEngine.to_literal(value, annotation, expected)
    assert isinstance(literal, literals_pb2.Literal)
    assert await TypeEngine.to_python_value(literal, annotation) == value


async def test_the_engine_refuses_a_value_of_another_class() -> None:
    for annotation, value in ((Celsius, 3), (int, "x")):
        with pytest.raises(TypeTransformerFailedError):
            await TypeEngine.to_literal(value, annotation, TypeEngine.to_literal_type(annotation))


def test_the_engine_knows_a_class_for_simple_literal_types() -> None:
    assert TypeEngine.guess_python_type(types_pb2.LiteralType(simple=types_pb2.SimpleType.INTEGER)) is int
    with pytest.raises(ValueError, match="No transformers could reverse"):
        TypeEngine.guess_python_type(types_pb2.LiteralType(blob=types_pb2.BlobType(format="x")))
