"""A value arrives as it was sent, or it is refused by its name: nothing is lost, shifted or replaced in silence."""

from __future__ import annotations

import datetime as dt
import decimal
import fractions
import importlib.util
import math
import zoneinfo
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NotRequired, TypedDict

import pytest
from pydantic import BaseModel

from flyte._declare.interface import interface_of
from flyte._values import decode, encode
from flyte.errors import InvalidInputError

np: Any = importlib.import_module("numpy") if importlib.util.find_spec("numpy") else None
pd: Any = importlib.import_module("pandas") if importlib.util.find_spec("pandas") else None
"""Neither is needed to run the platform; what they have is looked at where they are installed."""

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


@dataclass
class User:
    name: str = None  # type: ignore[assignment]
    handle: str = None  # type: ignore[assignment]


@dataclass
class Admin(User):
    rights: int = 0


class Point(NamedTuple):
    x: int
    label: str = None  # type: ignore[assignment]


class Model(BaseModel):
    name: str = None  # type: ignore[assignment]
    size: int = 0


@dataclass
class Holder:
    when: dt.datetime
    number: float
    day: dt.date


@dataclass
class Box:
    wide: int
    high: int
    area: int = field(init=False)
    label: str = field(default="x", init=False)

    def __post_init__(self) -> None:
        self.area = self.wide * self.high


class Order(TypedDict):
    id: int
    tags: list[str]
    note: NotRequired[str]


def arrived(value: Any, annotation: Any) -> Any:
    return decode(encode(value, annotation), annotation)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (User(), User),
        (User(handle="h"), User),
        (Point(1), Point),
        (Point(1, "a"), Point),
        (Model(), Model),
        (Model(size=3), Model),
        (Model(name="n"), Model),
        ([User(), User("a")], list[User]),
        ({"a": Point(1)}, dict[str, Point]),
    ],
)
def test_a_field_whose_default_is_none_may_be_left_out_and_passed_on(value: Any, annotation: Any) -> None:
    assert arrived(value, annotation) == value


@pytest.mark.parametrize("text", ["{}", '{"handle": "h"}', '{"name": null}'])
def test_json_may_leave_it_out_too(text: str) -> None:
    assert isinstance(decode(text, User), User)


def test_another_type_is_still_refused() -> None:
    with pytest.raises(InvalidInputError, match="name"):
        encode(User(name=7), User)  # type: ignore[arg-type]


SCALARS: list[Any] = [
    0, 1, -1, 2**53, 2**53 + 1, 2**80, True, 0.1, -0.0, 1e308, math.inf, math.nan, "a", "", b"x", None,
    decimal.Decimal("1.10"), fractions.Fraction(1, 2), fractions.Fraction(1, 3), 1 + 2j,
    dt.date(2026, 1, 31), dt.datetime(2026, 1, 31, tzinfo=dt.UTC), dt.datetime(2026, 1, 31, 12, 30, 1, 5, dt.UTC),
    dt.datetime(2026, 7, 31, 12, tzinfo=BERLIN), dt.time(12, 30), dt.time(12, 30, tzinfo=dt.UTC),
    dt.time(12, 30, tzinfo=BERLIN), dt.timedelta(days=-1, microseconds=1), dt.timedelta.max,
]  # fmt: skip
if np is not None:
    SCALARS += [
        np.int64(7), np.int64(2**53 + 1), np.uint8(7), np.float32(0.1), np.float64(0.1), np.bool_(True),
        np.bool_(False), np.longdouble("0.1"), np.float16(1.5), np.str_("s"),
    ]  # fmt: skip
if pd is not None:
    SCALARS += [
        pd.Timestamp("2026-01-31T12:00", tz="UTC"), pd.Timestamp("2026-01-31T12:00:00.000000001", tz="UTC"), pd.NaT,
        pd.Timedelta(1, "s"), pd.Timedelta(1, "ns"), pd.NA,
    ]  # fmt: skip
TYPES = [int, float, bool, str, bytes, complex, decimal.Decimal, dt.date, dt.datetime, dt.time, dt.timedelta]


JSON_FORMS = {dt.timedelta: (int, float), decimal.Decimal: (int, float, str), bytes: (str,)}
"""What else stands for a value of the type: seconds, digits, base64 text."""


def same(sent: Any, found: Any) -> bool:
    """Whether the same is meant; NaN is NaN, and a time at midnight may have come as a date."""
    if isinstance(sent, float) and math.isnan(sent):
        return math.isnan(found)
    if type(found) is dt.date and isinstance(sent, dt.datetime):
        return sent.replace(tzinfo=None) == dt.datetime.combine(found, dt.time())
    return bool(sent == found)


@pytest.mark.parametrize("annotation", TYPES)
@pytest.mark.parametrize("value", SCALARS, ids=lambda value: f"{type(value).__name__}-{value}")
def test_a_scalar_is_the_same_or_refused(value: Any, annotation: Any) -> None:
    if type(value) in JSON_FORMS.get(annotation, ()):
        return
    for wrap, kind in ((lambda one: one, annotation), (lambda one: [one], list[annotation])):
        try:
            text = encode(wrap(value), kind)
        except InvalidInputError:
            continue
        found = decode(text, kind)
        assert same(value, found[0] if isinstance(found, list) else found), text


def test_a_truth_of_numpys_is_a_bool() -> None:
    """numpy's class is known by its name, so that a stand-in does where numpy is not installed."""
    stand_in = type("bool", (), {"__module__": "numpy", "__bool__": lambda self: True})()
    assert arrived(stand_in if np is None else (np.array([1, 2]) > 0).all(), bool) is True


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (Holder("yesterday", 1.0, dt.date(2026, 1, 1)), "when"),  # type: ignore[arg-type]
        (Holder(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), 2**53 + 1, dt.date(2026, 1, 1)), "number"),
        (Holder(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), 1.0, dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)), "day"),
    ],
)
def test_what_would_be_lost_is_refused_by_the_name_of_its_field(value: Any, field: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"the value\.{field} must be"):
        encode(value, Holder)


def test_a_field_that_only_the_subclass_has_is_not_dropped() -> None:
    with pytest.raises(InvalidInputError, match="its field 'rights' would be lost: annotate Admin"):
        encode(Admin("a", rights=7), User)


def test_a_parameter_whose_default_is_none_takes_none() -> None:
    def greet(name: str = None) -> str:  # type: ignore[assignment]  # noqa: RUF013 - as programs write it
        return f"{name}"

    interface = interface_of(greet, "env.greet")
    for given in ({}, {"name": None}, {"name": "Ann"}):
        dumped = interface.dump_inputs(interface.bind((), given))
        assert interface.load_inputs(dumped).get("name") == given.get("name")


def test_fields_that_are_no_parameters_are_made_anew_from_the_others() -> None:
    assert arrived(Box(2, 3), Box) == Box(2, 3)
    assert arrived(Box(2, 3), Box).area == 6
    changed = Box(2, 3)
    changed.area = 50
    assert arrived(changed, Box) == Box(2, 3)
    with pytest.raises(InvalidInputError, match="it has no field 'area'; its fields are wide, high"):
        decode(b'{"wide": 2, "high": 3, "area": 6}', Box)


@pytest.mark.parametrize("order", [{"id": 1, "tags": ["a"]}, {"id": 1, "tags": [], "note": "n"}])
def test_a_typed_dict_arrives_with_the_keys_that_it_was_sent_with(order: Order) -> None:
    assert arrived(order, Order) == order


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ({"id": "1", "tags": []}, r"\.id must be int"),
        ({"id": 1}, "its field 'tags' is missing"),
        ({"id": 1, "tags": [], "more": 1}, "it has no field 'more'; its fields are id, tags, note"),
    ],
)
def test_a_typed_dict_with_other_keys_is_refused_by_their_names(order: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        encode(order, Order)
