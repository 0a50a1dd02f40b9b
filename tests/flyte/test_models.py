"""Pydantic models come out at the other end as they went in, or are refused by the name of what would not."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import math
import pathlib
import threading
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
import pydantic.dataclasses
import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    SecretBytes,
    SecretStr,
    computed_field,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

import flyte
from flyte._values import decode, encode, from_json, schema, to_json
from flyte._values.by_schema import dump_inputs
from flyte.errors import InvalidInputError, RuntimeDataValidationError
from flyte.wire import InputSpec
from tarmac.inputs import fits

T = TypeVar("T")


class Login(BaseModel):
    user: str
    password: SecretStr
    key: SecretBytes = SecretBytes(b"\xff")


class Area(BaseModel):
    model_config = ConfigDict(extra="forbid")
    side: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def y(self) -> int:
        return self.side**2


class Renamed(BaseModel):
    x: int = Field(serialization_alias="theX")
    hidden: str = Field(exclude=True)
    kept: str = Field(default="", exclude=True)


class Aliased(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    first_name: str
    last: str = Field(validation_alias=AliasChoices("surname", "family"))
    deep: int = Field(validation_alias=AliasPath("data", 1, "value"), default=0)
    other: int = Field(validation_alias=AliasPath("data", 0), default=0)


class ByName(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    x: int = Field(alias="ex", serialization_alias="ix")


class Numbers(BaseModel):
    one: float
    many: list[float] = []
    named: dict[str, float] = {}


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    x: float
    at: dt.datetime
    pair: tuple[int, str] = (1, "a")


class Data(BaseModel):
    data: bytes
    parts: list[bytes] = []


class Upload(BaseModel):
    data: bytes
    at: dt.datetime


class Shape(enum.Enum):
    LONG = (1, 4)


class Shaped(BaseModel):
    shape: Shape
    by_name: dict[str, Shape] = {}


class Loose(BaseModel):
    value: Any
    meta: dict[str, Any] = {}


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9
    token: SecretStr = SecretStr("")


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    weight: float = 1.5


class Owner(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    pets: list[Cat | Dog] = []
    by_id: dict[int, Cat] = {}


class Box(BaseModel, Generic[T]):
    item: T
    items: list[T] = []


class Names(RootModel[list[str]]):
    pass


class Free(BaseModel):
    model_config = ConfigDict(extra="allow")
    x: int


class Color(enum.Enum):
    RED = "red"


class Cleaned(BaseModel):
    name: str
    color: Color = Color.RED
    _lock: Any = PrivateAttr(default_factory=threading.Lock)
    _seen: int = PrivateAttr(default=0)

    @model_validator(mode="before")
    @classmethod
    def from_text(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str) else data

    @field_validator("name")
    @classmethod
    def strip(cls, value: str) -> str:
        return value.strip()


class Sloppy(BaseModel):
    place: pathlib.Path = "/tmp"  # type: ignore[assignment]
    words: tuple[str, ...] = []  # type: ignore[assignment]
    n: float = 1


class Node(BaseModel):
    value: float
    below: list[Node] = []


class Mixed(BaseModel):
    token: SecretStr
    naive: dt.datetime
    amount: dict[tuple[int, int], int] = {}


@dataclasses.dataclass
class Holder:
    login: Login
    ratio: float = 0.5


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (Login(user="a", password=SecretStr("s3cret")), Login),
        ([Login(user="a", password=SecretStr("s3cret"))], list[Login]),
        (Holder(Login(user="a", password=SecretStr("x"))), Holder),
        (Area(side=3), Area),
        (Renamed(x=1, hidden="h", kept="k"), Renamed),
        (Aliased.model_validate({"firstName": "A", "surname": "B", "data": [4, {"value": 5}]}), Aliased),
        (ByName(ex=1), ByName),
        (Numbers(one=math.inf, many=[1.0, -math.inf], named={"a": math.inf}), Numbers),
        (Strict(x=math.inf, at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC)), Strict),
        (Strict(x=1.5, at=dt.datetime(2026, 1, 2)), Strict),
        (Data(data=b"\xff\x00", parts=[b"ok", b"\xfe"]), Data),
        (Data(data=b"text"), Data),
        (Upload(data=b"\xff", at=dt.datetime(2026, 1, 2)), Upload),
        (Loose(value={1, 2}, meta={"at": dt.date(2026, 1, 2), "$model": (1, b"\xff")}), Loose),
        (Loose(value=(1, "a")), Loose),
        (Shaped(shape=Shape.LONG, by_name={"a": Shape.LONG}), Shaped),
        (Owner(pet=Cat(token=SecretStr("t")), pets=[Dog(), Cat()], by_id={3: Cat(lives=1)}), Owner),
        (Box[Login](item=Login(user="a", password=SecretStr("x"))), Box[Login]),
        (Box[int](item=1, items=[2]), Box[int]),
        (Names(["a", "b"]), Names),
        (RootModel[dict[str, int]]({"$model": 1}), RootModel[dict[str, int]]),
        (RootModel[bytes](b"\xff"), RootModel[bytes]),
        (Free(x=1, y=[1], z="a"), Free),  # type: ignore[call-arg]
        (Node(value=math.inf, below=[Node(value=1.0)]), Node),
        (Mixed(token=SecretStr("a"), naive=dt.datetime(2026, 1, 2)), Mixed),
        (Login(user="a", password=SecretStr("x")), Login | None),
        (Data(data=b"\xff"), Numbers | Data),
    ],
)
def test_a_model_comes_back_as_it_was(value: Any, kind: Any) -> None:
    text = encode(value, kind)
    back = decode(text, kind)
    assert back == value
    assert type(back) is type(value)
    whole = schema(kind)
    assert fits(msgspec.json.decode(text), whole, whole)


def test_a_secret_arrives_and_is_still_one() -> None:
    back = decode(encode(Login(user="a", password=SecretStr("s3cret"), key=SecretBytes(b"\xfe")), Login), Login)
    assert back.password.get_secret_value() == "s3cret"
    assert back.key.get_secret_value() == b"\xfe"
    assert "s3cret" not in repr(back)


@pydantic.dataclasses.dataclass
class Entry:
    token: SecretStr
    ratio: float = 1.0


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (SecretStr("a"), SecretStr),
        (SecretBytes(b"\xff"), SecretBytes),
        (None, SecretStr | None),
        ([SecretStr("a")], list[SecretStr]),
        (Entry(SecretStr("a"), math.inf), Entry),
    ],
)
def test_secrets_travel_outside_of_models_too(value: Any, kind: Any) -> None:
    text = encode(value, kind)
    assert decode(text, kind) == value
    assert b"pickle" not in text
    assert fits(msgspec.json.decode(text), schema(kind), schema(kind))


class NanStruct(msgspec.Struct):
    x: float
    word: str = "NaN"


@dataclasses.dataclass
class NanData:
    x: float
    xs: list[float]
    named: dict[str, float]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_comes_back(number: float) -> None:
    def the(value: Any) -> str:
        return repr(float(value))

    assert the(decode(encode(number, float), float)) == the(number)
    assert the(decode(encode([number], list[float]), list[float])[0]) == the(number)
    assert the(decode(encode({"a": number}, dict[str, float]), dict[str, float])["a"]) == the(number)
    assert the(decode(encode([number]))[0]) == the(number)
    data = decode(encode(NanData(number, [number], {"a": number}), NanData), NanData)
    assert [the(data.x), the(data.xs[0]), the(data.named["a"])] == [the(number)] * 3
    model = decode(encode(Numbers(one=number, many=[number], named={"a": number}), Numbers), Numbers)
    assert [the(model.one), the(model.many[0]), the(model.named["a"])] == [the(number)] * 3
    assert the(decode(encode(Strict(x=number, at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC)), Strict), Strict).x) == the(
        number
    )
    struct = decode(encode(NanStruct(1.5), NanStruct), NanStruct)
    assert struct.word == "NaN"
    assert the(decode(encode(NanStruct(number, "a"), NanStruct), NanStruct).x) == the(number)


@pytest.mark.parametrize("kind", [float, list[float], dict[str, float], Numbers, float | None])
def test_the_platform_lets_them_pass_too(kind: Any) -> None:
    values: dict[Any, Any] = {
        float: math.nan,
        list[float]: [math.inf],
        dict[str, float]: {"a": -math.inf},
        Numbers: Numbers(one=math.nan),
    }
    whole = schema(kind)
    assert fits(to_json(values.get(kind, math.nan), kind), whole, whole)
    assert not fits("much", schema(float), schema(float))


def test_a_member_of_a_union_that_has_to_be_named_passes_the_platform() -> None:
    kind = dt.datetime | int | str
    data = to_json("2026-01-02T00:00:00Z", kind)
    whole = schema(kind)
    assert fits(data, whole, whole)
    assert not fits({"$type": 1, "value": "no int"}, whole, whole)


class Bag(BaseModel):
    words: set[str]
    pairs: frozenset[tuple[int, str]] = frozenset()


class Shelf(BaseModel):
    bags: list[Bag]


def test_the_same_set_in_a_model_is_always_the_same_text() -> None:
    words = [f"word{n}" for n in range(50)]
    one = Shelf(bags=[Bag(words=set(words), pairs=frozenset((n, w) for n, w in enumerate(words)))])
    other = Shelf(bags=[Bag(words={*words[::-1]}, pairs=frozenset((n, w) for n, w in [*enumerate(words)][::-1]))])
    assert encode(one, Shelf) == encode(other, Shelf)
    assert decode(encode(one, Shelf), Shelf) == one
    assert to_json(Bag(words={"b", "a"}), Bag)["words"] == ["a", "b"]


def test_a_plain_models_json_is_pydantics_own() -> None:
    assert to_json(Area(side=2), Area) == {"side": 2}
    assert to_json(Cleaned(name="a"), Cleaned) == {"name": "a", "color": "red"}
    assert to_json(Login(user="a", password=SecretStr("b"), key=SecretBytes(b"c")), Login)["password"] == "b"


def test_validators_before_and_private_attributes_go_on_working() -> None:
    back = decode(encode(Cleaned(name=" a "), Cleaned), Cleaned)
    assert (back.name, back.color) == ("a", Color.RED)
    assert back._lock is not None
    assert from_json(" b ", Cleaned).name == "b"


def test_defaults_that_nobody_validated_become_what_they_are_declared_to_be() -> None:
    back = decode(encode(Sloppy(), Sloppy), Sloppy)
    assert (back.place, back.words, back.n) == (pathlib.Path("/tmp"), (), 1.0)


def test_of_a_subclass_travels_what_is_declared() -> None:
    class Small(Area):
        more: str = "x"

    assert decode(encode(Small(side=2), Area), Area) == Area(side=2)


class Doubled(BaseModel):
    x: int

    @field_validator("x")
    @classmethod
    def double(cls, value: int) -> int:
        return 2 * value


class Rounded(BaseModel):
    x: float

    @field_serializer("x")
    def short(self, value: float) -> str:
        return f"{value:.1f}"


class Opaque:
    pass


class Either(BaseModel):
    color: Color | str


class Arbitrary(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    thing: Opaque


def test_a_serializer_that_loses_something_is_passed_over() -> None:
    assert decode(encode(Rounded(x=1.234), Rounded), Rounded) == Rounded(x=1.234)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Doubled(x=2), ["x is 4", "would arrive as 8"]),
        (Arbitrary(thing=Opaque()), ["thing", "Opaque"]),
        (Either(color=Color.RED), ["color is <Color.RED", "would arrive as 'red'"]),
    ],
)
def test_a_model_that_would_arrive_as_another_is_refused_by_name(value: BaseModel, words: list[str]) -> None:
    with pytest.raises(InvalidInputError) as refused:
        to_json(value, type(value), "m")
    assert str(refused.value).startswith("m must be ")
    for word in words:
        assert word in str(refused.value)


def test_nothing_in_a_model_is_unpickled() -> None:
    pickle = {"value": {"$pickle": "gAU="}}
    assert from_json(pickle, Loose).value == {"$pickle": "gAU="}
    with pytest.raises(InvalidInputError, match="never pickled"):
        from_json({"$model": pickle}, Loose)


def test_a_fetched_task_gets_a_model_under_the_names_that_it_takes() -> None:
    declared = [InputSpec(name="a", schema=schema(Aliased)), InputSpec(name="b", schema=schema(Login))]
    a = Aliased.model_validate({"firstName": "A", "surname": "B"})
    given = dump_inputs({"a": a, "b": Login(user="a", password=SecretStr("x"))}, declared)
    assert from_json(given["a"], Aliased) == a
    assert from_json(given["b"], Login).password.get_secret_value() == "x"


env = flyte.TaskEnvironment("models")


@env.task
async def give(model: Renamed, login: Login, data: Data, number: float) -> tuple[Renamed, Login, Data, float]:
    assert login.password.get_secret_value() == "s3cret"
    return model, login, data, number


@env.task
async def doubled() -> Doubled:
    return Doubled(x=1)


async def test_models_are_inputs_and_outputs_of_tasks() -> None:
    flyte.init()
    given = (Renamed(x=1, hidden="h"), Login(user="a", password=SecretStr("s3cret")), Data(data=b"\xff"), math.inf)
    run = await flyte.run.aio(give, *given)
    assert tuple(await run.outputs.aio()) == given


async def test_an_output_that_would_arrive_as_another_fails_the_task_by_name() -> None:
    flyte.init()
    run = await flyte.run.aio(doubled)
    await run.wait.aio(quiet=True)
    with pytest.raises(RuntimeDataValidationError, match=r"the output of .*doubled.* x is 2"):
        await run.raise_for_status.aio()


async def test_an_input_with_no_json_form_is_refused_by_name() -> None:
    @env.task
    async def take(thing: Arbitrary) -> None: ...

    flyte.init()
    with pytest.raises(InvalidInputError, match="input 'thing' of"):
        await flyte.run.aio(take, Arbitrary(thing=Opaque()))
