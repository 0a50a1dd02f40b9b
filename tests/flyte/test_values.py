"""Values survive the way to another process and back, by annotation; what does not fit is refused in one sentence."""

from __future__ import annotations

import base64
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import pathlib
import pickle
import random
import string
import subprocess
import sys
import types
import typing
import uuid
import warnings
from typing import Any, Literal, NamedTuple, NotRequired, Optional, TypedDict, Union

import msgspec
import pytest
from pydantic import BaseModel

from flyte import _values
from flyte._values import decode, describe, encode, from_json, schema, to_json
from flyte.errors import InvalidInputError, RestrictedTypeError
from flyte.io import Dir, File


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Shape(enum.Enum):
    SQUARE = (1, 1)
    LONG = (1, 4)


class Word(str, enum.Enum):  # noqa: UP042 - the older way must work
    YES = "yes"
    NO = "no"


class Point(NamedTuple):
    x: int
    y: float = 0.0


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


@dataclasses.dataclass
class Leaf:
    name: str
    at: dt.datetime
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class Tree:
    value: int
    children: list[Tree] = dataclasses.field(default_factory=list)
    color: Color | None = None


T = typing.TypeVar("T")


@dataclasses.dataclass
class Pair(typing.Generic[T]):
    first: T
    second: T


class Order(BaseModel):
    id: int
    lines: list[str] = []
    when: dt.datetime | None = None
    file: File[str] | None = None


class Row(msgspec.Struct):
    id: int
    name: str = ""


class Opaque:
    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.value)


UserId = typing.NewType("UserId", int)

LEAVES: dict[Any, Any] = {
    int: lambda r: r.choice([0, -1, r.getrandbits(80), r.randint(-1000, 1000)]),
    float: lambda r: r.choice([0.0, -1.5, math.inf, -math.inf, 1e300, r.random()]),
    str: lambda r: "".join(r.choice(string.printable + "äß→𝄞\ud800") for _ in range(r.randint(0, 12))),
    bool: lambda r: r.random() < 0.5,
    type(None): lambda r: None,
    bytes: lambda r: r.randbytes(r.randint(0, 20)),
    dt.datetime: lambda r: dt.datetime.fromtimestamp(r.randint(0, 2**32), dt.UTC).replace(
        microsecond=r.randint(0, 999999)
    ),
    dt.date: lambda r: dt.date.fromordinal(r.randint(1, 3_000_000)),
    dt.time: lambda r: dt.time(r.randint(0, 23), r.randint(0, 59), r.randint(0, 59), r.randint(0, 999999)),
    dt.timedelta: lambda r: dt.timedelta(r.randint(-999, 999), r.randint(0, 86399), r.randint(0, 999999)),
    uuid.UUID: lambda r: uuid.UUID(int=r.getrandbits(128)),
    decimal.Decimal: lambda r: decimal.Decimal(r.randint(-(10**9), 10**9)).scaleb(-4),
    complex: lambda r: complex(r.randint(-9, 9), r.randint(-9, 9)),
    pathlib.Path: lambda r: pathlib.Path("/tmp") / str(r.randint(0, 99)),
    Color: lambda r: r.choice(list(Color)),
    Level: lambda r: r.choice(list(Level)),
    Shape: lambda r: r.choice(list(Shape)),
    Word: lambda r: r.choice(list(Word)),
    File: lambda r: File(path=f"/data/{r.randint(0, 9)}.txt", hash=r.choice([None, "abc"])),
    Dir: lambda r: Dir(path=f"/data/{r.randint(0, 9)}"),
}


def example(annotation: Any, r: random.Random) -> Any:
    """A random value of the annotation."""
    if annotation in LEAVES:
        return LEAVES[annotation](r)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    several = range(r.randint(0, 3))
    if origin in (Union, types.UnionType):
        return example(r.choice(args), r)
    if origin is Literal:
        return r.choice(args)
    if origin is tuple and args[-1] is not Ellipsis:
        return tuple(example(arg, r) for arg in args)
    if origin in (list, set, frozenset, tuple):
        return origin(example(args[0], r) for _ in several)
    if origin is dict:
        return {example(args[0], r): example(args[1], r) for _ in several}
    raise AssertionError(annotation)


HASHABLE = [int, str, bool, dt.date, uuid.UUID, Color, Level, Literal["a", "b"], tuple[int, str], float]


def annotation(r: random.Random, depth: int = 2) -> Any:
    """A random annotation."""
    if depth == 0 or r.random() < 0.3:
        return r.choice(list(LEAVES))
    inner = annotation(r, depth - 1)
    other = annotation(r, depth - 1)
    key = r.choice(HASHABLE)
    forms: list[tuple[Any, Any]] = [
        (list, inner),
        (tuple, (inner, other)),
        (tuple, (inner, ...)),
        (dict, (key, inner)),
        (set, key),
        (frozenset, key),
        (Optional, inner),
        (Union, (inner, other)),
    ]
    form, args = r.choice(forms)
    return form[args]


def same(left: Any, right: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return len(left) == len(right) and all(k in right and same(v, right[k]) for k, v in left.items())
    return bool(left == right)


@pytest.mark.parametrize("seed", range(400))
def test_any_value_of_any_annotation_comes_back_as_it_was(seed: int) -> None:
    r = random.Random(seed)
    kind = annotation(r)
    value = example(kind, r)
    text = encode(value, kind)
    assert same(decode(text, kind), value), (kind, value, text)
    json.loads(text)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (Point(1, 2.5), Point),
        ({"title": "x"}, Movie),
        ({"title": "x", "year": 1999}, Movie),
        (Leaf("a", dt.datetime(2026, 1, 2, tzinfo=dt.UTC)), Leaf),
        (Tree(1, [Tree(2), Tree(3, [Tree(4)], Color.RED)]), Tree),
        (Pair(1, 2), Pair[int]),
        (Order(id=1, lines=["a"], when=dt.datetime(2026, 1, 2, tzinfo=dt.UTC), file=File(path="/x")), Order),
        ([Order(id=1)], list[Order]),
        (Row(1, "a"), Row),
        (UserId(3), UserId),
        ({1: {"a": (1, 2)}}, dict),
        ({"a": [1, 2.5, None, True, "x", {"b": math.inf}]}, Any),
        ((1, {2, 3}, frozenset("ab"), b"x", dt.date(2026, 1, 2), pathlib.Path("/x"), File(path="/f")), Any),
        ({"$pickle": "x", "$$pickle": 1, "$ref": 2, "$type": 3}, Any),
        ({"$tuple": [1]}, Any),
        ({"$type": 0, "value": 3}, dict[str, int] | int),
        ({"$type": 0, "value": 3}, dict | int),
        (collections.OrderedDict(b=1, a=2), collections.OrderedDict[str, int]),
        (collections.deque([1, 2]), collections.deque[int]),
    ],
)
def test_structured_values_come_back_as_they_were(value: Any, kind: Any) -> None:
    back = decode(encode(value, kind), kind)
    assert back == value
    assert type(back) is type(value)


def test_nan_comes_back() -> None:
    assert math.isnan(decode(encode(math.nan, float), float))
    assert math.isnan(decode(encode({"a": math.nan}, dict), dict)["a"])


def test_numpy_numbers_are_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    assert to_json(numpy.int64(3), int) == 3
    assert to_json({"mean": numpy.float64(1.5), "n": numpy.int32(2)}, Any) == {"mean": 1.5, "n": 2}


def test_a_data_frame_comes_back() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert decode(encode(frame, pandas.DataFrame), pandas.DataFrame).equals(frame)
    assert from_json([{"a": 1}, {"a": 2}], pandas.DataFrame)["a"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("data", "kind", "value"),
    [
        (1, float, 1.0),
        (1.0, int, 1),
        ("2026-01-02T03:04:05Z", dt.datetime, dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
        ("2026-01-02T03:04:05", dt.datetime, dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
        ("2026-01-02", dt.datetime, dt.datetime(2026, 1, 2, tzinfo=dt.UTC)),
        ("2026-01-02", dt.date, dt.date(2026, 1, 2)),
        ("2026-01-02T00:00:00Z", dt.date, dt.date(2026, 1, 2)),
        (90, dt.timedelta, dt.timedelta(seconds=90)),
        ("PT1H30M", dt.timedelta, dt.timedelta(minutes=90)),
        ("1h30m", dt.timedelta, dt.timedelta(minutes=90)),
        ("red", Color, Color.RED),
        ("RED", Color, Color.RED),
        ("HIGH", Level, Level.HIGH),
        (2, Level, Level.HIGH),
        ("LONG", Shape, Shape.LONG),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([1, 1], set[int], {1}),
        ({"x": 1, "y": 2}, Point, Point(1, 2.0)),
        ([1, 2], Point, Point(1, 2.0)),
        ("5", int | str, "5"),
        (5, int | str, 5),
        (1, float | str, 1.0),
        (None, int | None, None),
        ("s3://b/k", File, File(path="s3://b/k")),
        ({"path": "/x", "name": "n"}, File[str], File(path="/x", name="n")),
        ("12.50", decimal.Decimal, decimal.Decimal("12.50")),
        (12.5, decimal.Decimal, decimal.Decimal("12.5")),
        ({"value": 1, "children": [{"value": 2}]}, Tree, Tree(1, [Tree(2)])),
        ({"1": "a"}, dict[int, str], {1: "a"}),
        ({"$ref": 1}, dict, {"$ref": 1}),
    ],
)
def test_json_from_elsewhere_is_met_half_way(data: Any, kind: Any, value: Any) -> None:
    assert same(from_json(data, kind), value)


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        ("1", int, ["x must be int", "'1' (str)"]),
        (1.5, int, ["int", "1.5"]),
        (True, int, ["int", "True"]),
        (5, str, ["str", "5 (int)"]),
        ("true", bool, ["bool"]),
        (1, bool, ["bool"]),
        (None, int, ["int", "None"]),
        ("soon", dt.datetime, ["datetime", "2026-01-31T12:00:00Z", "'soon'"]),
        ("green", Color, ["RED, BLUE", "'green'"]),
        (3, Literal["a", 1], ["'a' | 1"]),
        (True, Literal[1], ["1"]),
        ([1, "a"], list[int], ["x[1]", "int", "'a'"]),
        ({"a": {"b": "c"}}, dict[str, dict[str, float]], ["x['a']['b']", "float"]),
        ([1], tuple[int, str], ["tuple[int, str]", "1 elements, not 2"]),
        ({"value": 1, "children": [{"value": "x"}]}, Tree, ["x.children[0].value", "int"]),
        ({"values": 1}, Tree, ["Tree", "'values'", "value, children, color"]),
        ({}, Tree, ["Tree", "'value' is missing"]),
        ({"title": 1}, Movie, ["x.title", "str"]),
        ({"id": "no"}, Order, ["Order", "id:", "valid integer"]),
        ("x", int | float, ["int | float"]),
        ({"value": []}, Tree | None, ["x.value", "int"]),
        (5, File, ["File", "path"]),
        ("abc", bytes, ["bytes", "base64"]),
        (3, Opaque, ["Opaque", "pickled"]),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence_that_names_it(data: Any, kind: Any, words: list[str]) -> None:
    with pytest.raises(InvalidInputError) as refused:
        from_json(data, kind, "x")
    for word in words:
        assert word in str(refused.value)


def test_a_long_value_is_shortened_in_the_sentence() -> None:
    with pytest.raises(InvalidInputError) as refused:
        from_json("y" * 5000, int, "x")
    assert len(str(refused.value)) < 150


def test_values_of_the_wrong_type_are_refused_before_they_are_sent() -> None:
    with pytest.raises(InvalidInputError, match=r"n must be int, not 'five' \(str\)"):
        to_json("five", int, "n")
    with pytest.raises(InvalidInputError, match="str"):
        to_json(b"x", str)


def test_a_value_in_its_json_form_is_accepted_in_python_too() -> None:
    assert to_json({"value": 1}, Tree) == {"value": 1, "children": [], "color": None}
    assert to_json("2026-01-02", dt.datetime) == "2026-01-02T00:00:00+00:00"
    assert to_json("RED", Color) == "red"


def test_a_naive_datetime_is_utc() -> None:
    assert to_json(dt.datetime(2026, 1, 2), dt.datetime) == "2026-01-02T00:00:00+00:00"


def test_the_same_set_is_always_the_same_text() -> None:
    words = [f"word{n}" for n in range(50)]
    assert encode(set(words), set[str]) == encode({*words[::-1]}, set[str])


def test_members_of_a_union_are_told_apart() -> None:
    kind = str | dt.datetime | bytes
    for value in ("2026-01-02T00:00:00+00:00", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), b"2026"):
        assert same(decode(encode(value, kind), kind), value)


def test_the_order_of_a_union_is_kept() -> None:
    assert describe(int | str) == "int | str"
    assert describe(str | int) == "str | int"


# ---------------------------------------------------------------------------------------------------------- pickles


def test_an_unknown_class_is_pickled_with_a_warning_once() -> None:
    class_ = type("Fresh", (Opaque,), {"__module__": __name__})
    globals()["Fresh"] = class_
    with pytest.warns(UserWarning, match="Fresh travels as a pickle"):
        data = to_json(class_(3), Any)
    assert from_json(data, Any).value == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_json(class_(4), Any)


@pytest.mark.filterwarnings("ignore:a .* travels")
def test_a_pickle_of_another_class_is_refused() -> None:
    assert from_json(to_json(Opaque(1), Opaque), Opaque) == Opaque(1)
    with pytest.raises(InvalidInputError, match="Opaque"):
        from_json(to_json(dt.UTC, Any), Opaque)


class Bomb:
    def __reduce__(self) -> Any:
        return (globals()["explode"], ())


def explode() -> None:
    raise AssertionError("a pickle was loaded")


def bomb() -> dict[str, str]:
    return {"$pickle": base64.b64encode(pickle.dumps(Bomb())).decode()}


@pytest.mark.parametrize("kind", [int, str, list[int], dict[str, str], Tree, Order, Movie, Point, Color, File, bytes])
def test_a_pickle_is_not_loaded_where_a_known_type_is_declared(kind: Any) -> None:
    for data in (bomb(), [bomb()], {"value": bomb()}):
        try:
            from_json(data, kind)
        except InvalidInputError:
            continue


@pytest.mark.parametrize("kind", [Any, dict, dict[str, Any], list[Any]])
def test_json_that_a_stranger_sent_stays_json_when_it_is_passed_on(kind: Any) -> None:
    received = [bomb()] if kind == list[Any] else {"a": bomb()} if kind == dict[str, Any] else bomb()
    assert from_json(to_json(received, kind), kind) == received


def test_what_cannot_be_pickled_is_refused_with_its_type() -> None:
    with pytest.raises(RestrictedTypeError, match="generator"):
        to_json((n for n in range(3)), Any)


def test_a_class_of_a_script_is_found_again_under_the_scripts_module_name(tmp_path: pathlib.Path) -> None:
    script = tmp_path / "my_script.py"
    script.write_text(
        "import sys, warnings\n"
        "from flyte._values import encode, decode\n"
        "class Thing:\n"
        "    def __init__(self): self.x = 5\n"
        "if __name__ == '__main__':\n"
        "    warnings.simplefilter('ignore')\n"
        "    if len(sys.argv) > 1:\n"
        "        print(type(decode(sys.argv[1])).__module__)\n"
        "    else:\n"
        "        print(encode(Thing()).decode())\n"
    )
    worker = (
        "import my_script, sys, warnings; warnings.simplefilter('ignore'); from flyte._values import decode, encode;"
    )
    worker += "thing = decode(sys.argv[1]); assert type(thing) is my_script.Thing; print(encode(thing).decode())"
    sent = _python(tmp_path, str(script))
    answer = _python(tmp_path, "-c", worker, sent)
    assert _python(tmp_path, str(script), answer) == "__main__"


def _python(folder: pathlib.Path, *args: str) -> str:
    source = pathlib.Path(_values.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, *args],
        cwd=folder,
        env={"PYTHONPATH": f"{source}:{folder}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.strip()


# ----------------------------------------------------------------------------------------------------------- schema


def test_the_schema_says_what_travels() -> None:
    assert schema(int) == {"type": "integer"}
    assert schema(list[float]) == {"type": "array", "items": {"type": "number"}}
    assert schema(dict[str, int]) == {"type": "object", "additionalProperties": {"type": "integer"}}
    assert schema(Any) == {}
    assert schema(Color)["enum"] == ["red", "blue"]
    assert schema(Color)["x-names"] == ["RED", "BLUE"]
    assert schema(int | None) == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    assert schema(Literal["a", "b"]) == {"enum": ["a", "b"]}
    movie = schema(Movie)
    assert movie["required"] == ["title"]
    assert set(movie["properties"]) == {"title", "year"}


def test_a_type_that_contains_itself_becomes_a_definition() -> None:
    tree = schema(Tree)
    assert tree["$ref"] == "#/$defs/Tree"
    assert tree["$defs"]["Tree"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}


@pytest.mark.parametrize("kind", [Tree, Leaf, Order, Row, Movie, Point, list[Order], dict[int, Tree], File, set[str]])
def test_every_schema_is_valid_and_fits_what_is_sent(kind: Any) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    whole = schema(kind)
    jsonschema.Draft202012Validator.check_schema(whole)
    examples: dict[Any, Any] = {
        Tree: Tree(1, [Tree(2)]),
        Leaf: Leaf("a", dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
        Order: Order(id=1),
        Row: Row(1),
        Movie: {"title": "x"},
        Point: Point(1),
        list[Order]: [Order(id=1)],
        dict[int, Tree]: {1: Tree(2)},
        File: File(path="/x"),
        set[str]: {"a"},
    }
    jsonschema.Draft202012Validator(whole).validate(json.loads(encode(examples[kind], kind)))


def test_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="x is not JSON"):
        decode(b"{nope", int, "x")
    with pytest.raises(InvalidInputError, match="x is not JSON"):
        decode(b"NaN", float, "x")


def test_what_was_not_awaited_is_named_by_the_mistake() -> None:
    async def call() -> int:
        return 1

    forgotten = call()
    with pytest.raises(InvalidInputError, match="did you forget `await`"):
        to_json(forgotten, int, "the output of bad.forgot")
    forgotten.close()
